//! Typed expressions over columns: what a kernel of any device can be asked to compute.
//!
//! A tree of these is all that a GPU kernel is generated from and all that `cpu::project` evaluates.
//! What it cannot say (strings, calendar parts, regular expressions) becomes an input column that the
//! engine computes with DataFusion's physical expressions.

mod check;

use arrow::datatypes::DataType;

pub use check::can_cast;

/// An expression with the type of its value.
///
/// Types in use: Boolean, Int8 to Int64, Float32, Float64, Decimal128, Date32 and
/// Timestamp(Microsecond, _). Operands of a comparison or an arithmetic operation have equal types:
/// the planner inserts the casts. [`Expr::check`] says what else is possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub data_type: DataType,
}

impl Expr {
    pub fn column(index: usize, data_type: DataType) -> Expr {
        Expr { kind: ExprKind::Column(index), data_type }
    }

    pub fn literal(literal: Literal, data_type: DataType) -> Expr {
        Expr { kind: ExprKind::Literal(literal), data_type }
    }

    /// The columns that are read, from left to right, some perhaps more than once.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = Vec::new();
        self.visit(&mut |expr| {
            if let ExprKind::Column(column) = expr.kind {
                columns.push(column);
            }
        });
        columns
    }

    /// The same tree over columns of other numbers.
    pub fn map_columns(&self, to: &mut impl FnMut(usize, &DataType) -> usize) -> Expr {
        let mut of = |operand: &Expr| Box::new(operand.map_columns(to));
        let kind = match &self.kind {
            ExprKind::Column(column) => ExprKind::Column(to(*column, &self.data_type)),
            ExprKind::Literal(literal) => ExprKind::Literal(literal.clone()),
            ExprKind::Not(e) => ExprKind::Not(of(e)),
            ExprKind::IsNull(e) => ExprKind::IsNull(of(e)),
            ExprKind::IsNotNull(e) => ExprKind::IsNotNull(of(e)),
            ExprKind::And(a, b) => ExprKind::And(of(a), of(b)),
            ExprKind::Or(a, b) => ExprKind::Or(of(a), of(b)),
            ExprKind::Compare(op, a, b) => ExprKind::Compare(*op, of(a), of(b)),
            ExprKind::Arithmetic(op, a, b) => ExprKind::Arithmetic(*op, of(a), of(b)),
            ExprKind::Negate(e) => ExprKind::Negate(of(e)),
            ExprKind::Cast(e) => ExprKind::Cast(of(e)),
            ExprKind::Case { branches, otherwise } => ExprKind::Case {
                branches: branches.iter().map(|(when, then)| (*of(when), *of(then))).collect(),
                otherwise: otherwise.as_ref().map(|otherwise| of(otherwise)),
            },
            &ExprKind::WindowStart { ref time, size_us, offset_us } => {
                ExprKind::WindowStart { time: of(time), size_us, offset_us }
            }
        };
        Expr { kind, data_type: self.data_type.clone() }
    }

    /// Calls `see` for this expression and all those within it, the outer first.
    pub fn visit(&self, see: &mut impl FnMut(&Expr)) {
        see(self);
        for operand in self.operands() {
            operand.visit(see);
        }
    }

    /// The expressions that this one is directly made of, from left to right.
    pub fn operands(&self) -> impl Iterator<Item = &Expr> {
        let (pair, branches): ([Option<&Expr>; 2], &[(Expr, Expr)]) = match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => ([None, None], &[]),
            ExprKind::Not(e)
            | ExprKind::IsNull(e)
            | ExprKind::IsNotNull(e)
            | ExprKind::Negate(e)
            | ExprKind::Cast(e)
            | ExprKind::WindowStart { time: e, .. } => ([Some(e), None], &[]),
            ExprKind::And(a, b)
            | ExprKind::Or(a, b)
            | ExprKind::Compare(_, a, b)
            | ExprKind::Arithmetic(_, a, b) => ([Some(a), Some(b)], &[]),
            ExprKind::Case { branches, otherwise } => ([otherwise.as_deref(), None], branches),
        };
        branches.iter().flat_map(|(when, then)| [when, then]).chain(pair.into_iter().flatten())
    }
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
    /// Integers and decimals are checked: overflow sets the row's error bit; so does division by
    /// zero, of floats too. Decimals may differ in precision and scale: the exact result is brought
    /// to the result's type, half up. Also timestamp ± Int64 (microseconds), date ± Int32 (days),
    /// timestamp − timestamp, date − date.
    Arithmetic(ArithmeticOp, Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    /// Checked: a value that the target type cannot hold sets the row's error bit. Float and decimal
    /// to integer truncate towards zero. Integers and timestamps convert by whole seconds, integers
    /// and dates by days, dates and timestamps at midnight UTC.
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
    /// Integers truncate, as Spark's `div`.
    Divide,
    /// Sign of the dividend, as Spark's `%`.
    Remainder,
}
