//! Typed expressions over columns: what a kernel of any device can be asked to compute.
//!
//! A tree of these is all that a GPU kernel is generated from and all that `cpu::project` evaluates.
//! What it cannot say (strings, zones whose clocks change, regular expressions) becomes an input column that the
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
            ExprKind::DatePart(part, date) => ExprKind::DatePart(*part, of(date)),
            ExprKind::ClockPart(part, time) => ExprKind::ClockPart(*part, of(time)),
            ExprKind::Truncate(unit, value) => ExprKind::Truncate(*unit, of(value)),
            ExprKind::LastDay(date) => ExprKind::LastDay(of(date)),
            ExprKind::AddMonths(to, months) => ExprKind::AddMonths(of(to), of(months)),
            ExprKind::WholeMonths(start, end) => ExprKind::WholeMonths(of(start), of(end)),
            &ExprKind::ToLocal { ahead_us, ref time } => {
                ExprKind::ToLocal { ahead_us, time: of(time) }
            }
            &ExprKind::FromLocal { ahead_us, ref time } => {
                ExprKind::FromLocal { ahead_us, time: of(time) }
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
            | ExprKind::WindowStart { time: e, .. }
            | ExprKind::DatePart(_, e)
            | ExprKind::ClockPart(_, e)
            | ExprKind::Truncate(_, e)
            | ExprKind::LastDay(e)
            | ExprKind::ToLocal { time: e, .. }
            | ExprKind::FromLocal { time: e, .. } => ([Some(e), None], &[]),
            ExprKind::And(a, b)
            | ExprKind::Or(a, b)
            | ExprKind::Compare(_, a, b)
            | ExprKind::Arithmetic(_, a, b)
            | ExprKind::AddMonths(a, b)
            | ExprKind::WholeMonths(a, b) => ([Some(a), Some(b)], &[]),
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
    /// A field of a date, as Int32; NULL in years of more than four digits, as for those below.
    DatePart(DatePart, Box<Expr>),
    /// A field of a time of day, as Int32: days begin at midnight UTC.
    ClockPart(ClockPart, Box<Expr>),
    /// Start of the unit that a timestamp lies in, or a date in a unit of days.
    Truncate(CalendarUnit, Box<Expr>),
    /// The last day of a date's month.
    LastDay(Box<Expr>),
    /// A date, or a timestamp at its time of day, so many months later (Int32, Int64): on the same day of
    /// the month, or on its last one where it has fewer; none later it is what it was. Outside of the
    /// calendar's years, before or after, it sets the row's error bit.
    AddMonths(Box<Expr>, Box<Expr>),
    /// How many months the second timestamp is behind the first, as Int32: whole ones, by day and time of
    /// day. One outside of the calendar sets the row's error bit.
    WholeMonths(Box<Expr>, Box<Expr>),
    /// What clocks show that are so far ahead of UTC, as the time at which those of UTC show it. Within
    /// 26 hours of the calendar's ends there are no other clocks.
    ToLocal {
        ahead_us: i64,
        time: Box<Expr>,
    },
    /// The time of which such clocks show this.
    FromLocal {
        ahead_us: i64,
        time: Box<Expr>,
    },
}

/// Fields of a date of the Gregorian calendar, also before there was one; weeks are those of ISO 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    Year,
    Quarter,
    Month,
    Day,
    DayOfYear,
    /// From Sunday, 1, on.
    DayOfWeek,
    /// From Monday, 1, on.
    DayOfWeekIso,
    /// From Monday, 0, on.
    Weekday,
    WeekOfYear,
    /// The year that the date's week belongs to.
    YearOfWeek,
}

impl DatePart {
    pub const ALL: [DatePart; 10] = [
        DatePart::Year,
        DatePart::Quarter,
        DatePart::Month,
        DatePart::Day,
        DatePart::DayOfYear,
        DatePart::DayOfWeek,
        DatePart::DayOfWeekIso,
        DatePart::Weekday,
        DatePart::WeekOfYear,
        DatePart::YearOfWeek,
    ];

    /// As SQL calls it.
    pub fn name(self) -> &'static str {
        match self {
            DatePart::Year => "year",
            DatePart::Quarter => "quarter",
            DatePart::Month => "month",
            DatePart::Day => "day",
            DatePart::DayOfYear => "dayofyear",
            DatePart::DayOfWeek => "dayofweek",
            DatePart::DayOfWeekIso => "dayofweek_iso",
            DatePart::Weekday => "weekday",
            DatePart::WeekOfYear => "weekofyear",
            DatePart::YearOfWeek => "yearofweek",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockPart {
    Hour,
    Minute,
    /// Whole ones.
    Second,
}

impl ClockPart {
    pub const ALL: [ClockPart; 3] = [ClockPart::Hour, ClockPart::Minute, ClockPart::Second];

    /// As SQL calls it.
    pub fn name(self) -> &'static str {
        match self {
            ClockPart::Hour => "hour",
            ClockPart::Minute => "minute",
            ClockPart::Second => "second",
        }
    }
}

/// Units of time, the shortest first; weeks begin on Mondays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CalendarUnit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl CalendarUnit {
    pub const ALL: [CalendarUnit; 10] = [
        CalendarUnit::Microsecond,
        CalendarUnit::Millisecond,
        CalendarUnit::Second,
        CalendarUnit::Minute,
        CalendarUnit::Hour,
        CalendarUnit::Day,
        CalendarUnit::Week,
        CalendarUnit::Month,
        CalendarUnit::Quarter,
        CalendarUnit::Year,
    ];

    /// As SQL calls it.
    pub fn name(self) -> &'static str {
        match self {
            CalendarUnit::Microsecond => "microsecond",
            CalendarUnit::Millisecond => "millisecond",
            CalendarUnit::Second => "second",
            CalendarUnit::Minute => "minute",
            CalendarUnit::Hour => "hour",
            CalendarUnit::Day => "day",
            CalendarUnit::Week => "week",
            CalendarUnit::Month => "month",
            CalendarUnit::Quarter => "quarter",
            CalendarUnit::Year => "year",
        }
    }
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
