//! Typed expressions over columns: what a kernel of any device can be asked to compute.
//!
//! A tree of these is all that a GPU kernel is generated from and all that `cpu::project` evaluates.
//! What it cannot say (strings, calendar parts, regular expressions) becomes an input column that the
//! engine computes with DataFusion's physical expressions.

use arrow::datatypes::DataType;

/// An expression with the type of its value.
///
/// Types in use: Boolean, Int8 to Int64, Float32, Float64, Decimal128, Date32 and
/// Timestamp(Microsecond, _). Operands of a comparison or an arithmetic operation have equal types:
/// the planner inserts the casts.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub data_type: DataType,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// The column of the input at this index.
    Column(usize),
    Literal(Literal),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    IsNotNull(Box<Expr>),
    /// Kleene's three-valued logic, as in SQL.
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// NaN is equal to itself and greater than every number; -0.0 equals 0.0, as in Spark.
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// Integers and decimals are checked: overflow and division by zero set the row's error bit.
    Arithmetic(ArithmeticOp, Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    /// Checked: a value that the target type cannot hold sets the row's error bit. Double to
    /// integer truncates towards zero.
    Cast(Box<Expr>),
    /// The first branch whose condition is true; an error counts only in the branch that is taken.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    /// Start in microseconds of the tumbling window that holds a timestamp: aligned to
    /// 1970-01-01T00:00:00Z plus `offset_us`, negative times downwards.
    WindowStart {
        time: Box<Expr>,
        size_us: i64,
        offset_us: i64,
    },
}

/// A constant of the type of the expression that holds it; `Null` is of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Boolean(bool),
    /// Integers, dates (days) and timestamps (microseconds).
    Int(i64),
    /// Float32 and Float64.
    Float(f64),
    /// Unscaled value of a decimal.
    Decimal(i128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Sign of the dividend, as Spark's `%`.
    Remainder,
}
