//! The functions that SQL can call: Spark's as written here, then those of DataFusion's crates.
//!
//! A function here takes whole columns and fails as a whole; the rows at fault are found by asking
//! again for fewer of them (see `expr`). Spark's ANSI answers: nothing wraps, nothing becomes NULL.

pub mod aggregate;
pub mod arithmetic;
pub mod cast;

mod array;
mod bytes;
pub mod calendar;
mod conversions;
mod field;
mod grouping;
mod hash;
pub mod higher;
pub mod json;
pub mod lambda;
mod list;
mod map;
mod math;
mod misc;
mod native;
mod number_format;
mod numbers;
pub mod packed;
mod pieces;
mod text;
mod text_time;
pub mod time;
pub mod window;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, Volatility};
use jiff::tz::TimeZone;

/// Every function by the name that SQL calls it.
#[derive(Debug)]
pub struct Catalog {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    higher: HashMap<String, Arc<HigherOrderUDF>>,
    pub zone: TimeZone,
}

impl Catalog {
    /// `zone` serves text without zone and the parts of a date.
    pub fn new(zone: TimeZone) -> Self {
        let mut scalars = HashMap::new();
        let borrowed = datafusion_functions::all_default_functions()
            .into_iter()
            .chain(datafusion_functions_nested::all_default_nested_functions())
            .chain(datafusion_spark::all_default_scalar_functions());
        for udf in borrowed {
            // A function whose answer depends on the clock or on chance has no place in a result
            // that is the same for any run.
            if udf.signature().volatility != Volatility::Immutable {
                continue;
            }
            // Spelt by others here: `map_from_arrays`, a generator.
            if matches!(udf.name(), "map" | "map_extract" | "json_tuple" | "version") {
                continue;
            }
            for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
                scalars.insert(name.to_string(), Arc::clone(&udf));
            }
        }
        let own = text::functions()
            .chain(math::functions())
            .chain(time::functions())
            .chain([time::between(), time::days_between()])
            .chain(list::functions())
            .chain(array::functions())
            .chain(pieces::functions())
            .chain(calendar::functions())
            .chain(numbers::functions())
            .chain(bytes::functions())
            .chain(hash::functions())
            .chain(json::functions())
            .chain(map::functions())
            .chain(misc::functions())
            .chain(conversions::functions());
        for definition in own {
            let name = definition.name.to_string();
            scalars.insert(name, Arc::new(native::udf(definition, zone.clone())));
        }
        for udf in field::all().chain(conversions::typed(&zone)) {
            scalars.insert(udf.name().to_string(), Arc::new(udf));
        }
        scalars.insert("from_json".into(), Arc::new(json::from_json(zone.clone())));
        scalars.insert("window".into(), Arc::new(window::window()));
        scalars.insert("window_time".into(), Arc::new(window::window_time()));
        scalars.insert("session_window".into(), Arc::new(window::session_window()));
        scalars.insert("duration_us".into(), Arc::new(window::duration_us()));
        let aggregates = aggregate::all().chain(grouping::all());
        let aggregates = aggregates.map(|udf| (udf.name().to_string(), Arc::new(udf)));
        let higher = lambda::all().map(|udf| (udf.name().to_string(), Arc::new(udf))).collect();
        Catalog { scalars, aggregates: aggregates.collect(), higher, zone }
    }

    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    pub fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    pub fn higher_order(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher.get(name).cloned()
    }

    pub fn is_aggregate(&self, name: &str) -> bool {
        self.aggregates.contains_key(name)
    }

    pub fn is_known(&self, name: &str) -> bool {
        let value = self.scalars.contains_key(name) || self.higher.contains_key(name);
        value || self.aggregates.contains_key(name)
    }

    /// All names, for suggestions.
    pub fn names(&self) -> Vec<String> {
        let values = self.scalars.keys().chain(self.higher.keys());
        let mut names: Vec<String> = values.chain(self.aggregates.keys()).cloned().collect();
        names.sort_unstable();
        names
    }
}
