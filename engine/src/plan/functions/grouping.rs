//! `grouping` and `grouping_id`: names for the binder, which takes them for aggregates. What they are
//! is decided where grouping sets are expanded (`plan::grouping`); they are never run.

use arrow::datatypes::DataType;
use datafusion_common::{Result, not_impl_err};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

pub fn all() -> impl Iterator<Item = AggregateUDF> {
    [("grouping", DataType::Int8), ("grouping_id", DataType::Int64)].into_iter().map(
        |(name, returns)| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            AggregateUDF::new_from_impl(Asked { name, returns, signature })
        },
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Asked {
    name: &'static str,
    returns: DataType,
    signature: Signature,
}

impl AggregateUDFImpl for Asked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("a grouping set is no aggregate")
    }
}
