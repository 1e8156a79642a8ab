//! Functions of dates and times as the kernels' tree: of local times, and of instants in a zone whose clocks
//! are always as far ahead of UTC.
//!
//! Invariant: a tree gives what the function of its name in `functions::time` gives, to the bit; an overflow is told
//! in the kernels' words. Other zones, texts and intervals are left to those functions.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::Expr as Logical;
use pelton_kernels::expr::{
    ArithmeticOp, CalendarUnit, ClockPart, DatePart, Expr, ExprKind, Literal,
};

use super::{Translator, US_PER_DAY, cast};
use crate::plan::functions::calendar::{self, Unit, weekday_named};
use crate::plan::types::{is_integer, timestamp};

pub(super) const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl Translator<'_> {
    /// A call of a function of dates or times; its arguments have the types that it takes.
    pub(super) fn calendar(&self, name: &str, args: &[Logical]) -> Option<Expr> {
        if let Some(part) = date_part(name) {
            let [time] = args else { return None };
            return self.date_part(part, self.tree(time)?);
        }
        match (name, args) {
            ("hour", [time]) => self.clock_part(ClockPart::Hour, time),
            ("minute", [time]) => self.clock_part(ClockPart::Minute, time),
            ("second", [time]) => self.clock_part(ClockPart::Second, time),
            ("date_trunc", [unit, time]) => {
                let (unit, time) = (unit_of_time(&name_of(unit)?)?, self.tree(time)?);
                let data_type = time.data_type.clone();
                // A microsecond is one whatever clocks show.
                let is_whole = unit == CalendarUnit::Microsecond;
                let time = if is_whole { time } else { self.local(time)? };
                let to = time.data_type.clone();
                let start = of(ExprKind::Truncate(unit, Box::new(time)), to);
                Some(self.instant(start, &data_type))
            }
            ("trunc", [date, unit]) => {
                let (unit, date) = (unit_of_date(&name_of(unit)?)?, self.date(date)?);
                Some(of(ExprKind::Truncate(unit, Box::new(date)), DataType::Date32))
            }
            ("to_date", [date]) => self.date(date),
            ("to_timestamp", [time]) => self.time(time),
            ("date_add", [date, days]) => self.moved_by_days(ArithmeticOp::Add, date, days),
            ("date_sub", [date, days]) => self.moved_by_days(ArithmeticOp::Subtract, date, days),
            ("last_day", [date]) => {
                Some(of(ExprKind::LastDay(Box::new(self.date(date)?)), DataType::Date32))
            }
            ("next_day", [date, day]) => {
                let day = weekday_named(&name_of(day)?)?.to_monday_zero_offset();
                Some(next_day(self.date(date)?, i64::from(day)))
            }
            ("add_months", [date, months]) => {
                let (date, months) = (self.date(date)?, self.tree(months)?);
                (months.data_type == DataType::Int32).then(|| add_months(date, months))
            }
            ("timestampadd", [unit, count, time]) => {
                let (count, time) = (self.count(count)?, self.time(time)?);
                self.later(named(unit)?, count, time)
            }
            ("timestampdiff", [unit, start, end]) => {
                self.apart(named(unit)?, self.time(start)?, self.time(end)?)
            }
            ("datediff", [end, start]) => {
                let (end, start) = (self.date(end)?, self.date(start)?);
                Some(arithmetic(ArithmeticOp::Subtract, end, start, DataType::Int32))
            }
            ("unix_date", [date]) => Some(cast(self.date(date)?, DataType::Int32)),
            ("date_from_unix_date", [days]) => {
                let days = self.tree(days)?;
                (days.data_type == DataType::Int32).then(|| cast(days, DataType::Date32))
            }
            ("unix_micros", [time]) => Some(us_of(self.time(time)?)),
            ("unix_seconds", [time]) => Some(cast(self.time(time)?, DataType::Int64)),
            // Towards zero, where everything else goes downwards.
            ("unix_timestamp", [time]) => {
                let second = long(1_000_000);
                let us = us_of(self.time(time)?);
                Some(arithmetic(ArithmeticOp::Divide, us, second, DataType::Int64))
            }
            ("timestamp_seconds", [seconds]) => {
                let seconds = self.tree(seconds)?;
                is_integer(&seconds.data_type).then(|| cast(seconds, timestamp()))
            }
            ("timestamp_millis", [count]) => {
                let us = arithmetic(
                    ArithmeticOp::Multiply,
                    self.count(count)?,
                    long(1_000),
                    DataType::Int64,
                );
                Some(arithmetic(ArithmeticOp::Add, epoch(timestamp()), us, timestamp()))
            }
            ("timestamp_micros", [count]) => {
                let us = self.count(count)?;
                Some(arithmetic(ArithmeticOp::Add, epoch(timestamp()), us, timestamp()))
            }
            _ => None,
        }
    }

    /// A time as clocks show it: of an instant, in the job's zone.
    pub(super) fn local(&self, time: Expr) -> Option<Expr> {
        match (&time.data_type, self.ahead_us) {
            (DataType::Timestamp(TimeUnit::Microsecond, None), _) | (_, Some(0)) => Some(time),
            (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), Some(ahead_us)) => {
                Some(of(ExprKind::ToLocal { ahead_us, time: Box::new(time) }, LOCAL))
            }
            _ => None,
        }
    }

    /// What [`Translator::local`] made local as `data_type` again.
    pub(super) fn instant(&self, time: Expr, data_type: &DataType) -> Expr {
        match self.ahead_us {
            Some(ahead_us) if time.data_type != *data_type => {
                of(ExprKind::FromLocal { ahead_us, time: Box::new(time) }, data_type.clone())
            }
            _ => time,
        }
    }

    /// A time by an interval of months, then days, then microseconds.
    pub(super) fn by_months(&self, months: i64, days: i64, us: i64, time: Expr) -> Option<Expr> {
        let data_type = time.data_type.clone();
        let of_days = days.checked_mul(US_PER_DAY)?.checked_add(us)?;
        let shown = add_months(self.local(time)?, long(months));
        Some(plus(self.instant(shown, &data_type), of_days))
    }

    /// `count` units later.
    fn later(&self, unit: Unit, count: Expr, time: Expr) -> Option<Expr> {
        let data_type = time.data_type.clone();
        let times = |each: i64| match each {
            1 => count.clone(),
            each => arithmetic(ArithmeticOp::Multiply, count.clone(), long(each), DataType::Int64),
        };
        let add = |time: Expr, us: i64| {
            let to = time.data_type.clone();
            arithmetic(ArithmeticOp::Add, time, times(us), to)
        };
        let is_there = of(ExprKind::IsNotNull(Box::new(time.clone())), DataType::Boolean);
        let later = match unit {
            Unit::Us(each) => add(time, each),
            // All days are as long where local times are to be had.
            Unit::Days(each) => {
                self.local(time.clone())?;
                add(time, each * US_PER_DAY)
            }
            Unit::Months(each) => {
                self.instant(add_months(self.local(time)?, times(each)), &data_type)
            }
        };
        // Too many units are no fault where there is no time to add them to.
        let case = ExprKind::Case { branches: vec![(is_there, later)], otherwise: None };
        Some(of(case, data_type))
    }

    /// Whole units from one time to the other, by what clocks show.
    fn apart(&self, unit: Unit, start: Expr, end: Expr) -> Option<Expr> {
        let (start, end) = (self.local(start)?, self.local(end)?);
        let us = |start, end| arithmetic(ArithmeticOp::Subtract, end, start, DataType::Int64);
        let (count, each) = match unit {
            Unit::Us(each) => (us(start, end), each),
            Unit::Days(each) => (us(start, end), each * US_PER_DAY),
            Unit::Months(each) => {
                let months = ExprKind::WholeMonths(Box::new(start), Box::new(end));
                (cast(of(months, DataType::Int32), DataType::Int64), each)
            }
        };
        Some(match each {
            1 => count,
            each => arithmetic(ArithmeticOp::Divide, count, long(each), DataType::Int64),
        })
    }

    fn date_part(&self, part: DatePart, of_time: Expr) -> Option<Expr> {
        let date = match of_time.data_type {
            DataType::Date32 => of_time,
            DataType::Timestamp(..) => cast(self.local(of_time)?, DataType::Date32),
            _ => return None,
        };
        Some(of(ExprKind::DatePart(part, Box::new(date)), DataType::Int32))
    }

    fn clock_part(&self, part: ClockPart, time: &Logical) -> Option<Expr> {
        let time = Box::new(self.local(self.time(time)?)?);
        Some(of(ExprKind::ClockPart(part, time), DataType::Int32))
    }

    fn moved_by_days(&self, op: ArithmeticOp, date: &Logical, days: &Logical) -> Option<Expr> {
        let (date, days) = (self.date(date)?, self.tree(days)?);
        (days.data_type == DataType::Int32).then(|| arithmetic(op, date, days, DataType::Date32))
    }

    fn date(&self, date: &Logical) -> Option<Expr> {
        self.tree(date).filter(|date| date.data_type == DataType::Date32)
    }

    fn time(&self, time: &Logical) -> Option<Expr> {
        self.tree(time).filter(|time| matches!(time.data_type, DataType::Timestamp(..)))
    }

    fn count(&self, count: &Logical) -> Option<Expr> {
        self.tree(count).filter(|count| count.data_type == DataType::Int64)
    }
}

fn date_part(name: &str) -> Option<DatePart> {
    DatePart::ALL.into_iter().find(|part| part.name() == name)
}

/// The names that `date_trunc` takes.
fn unit_of_time(name: &str) -> Option<CalendarUnit> {
    Some(match name {
        "microsecond" => CalendarUnit::Microsecond,
        "millisecond" => CalendarUnit::Millisecond,
        "second" => CalendarUnit::Second,
        "minute" => CalendarUnit::Minute,
        "hour" => CalendarUnit::Hour,
        "day" | "dd" => CalendarUnit::Day,
        name => return unit_of_date(name),
    })
}

/// The names that `trunc` takes.
fn unit_of_date(name: &str) -> Option<CalendarUnit> {
    Some(match name {
        "week" => CalendarUnit::Week,
        "month" | "mon" | "mm" => CalendarUnit::Month,
        "quarter" => CalendarUnit::Quarter,
        "year" | "yyyy" | "yy" => CalendarUnit::Year,
        _ => return None,
    })
}

/// A constant unit of `timestampadd` and `timestampdiff`.
fn named(unit: &Logical) -> Option<Unit> {
    calendar::unit(&name_of(unit)?).ok()
}

/// A constant name in lower case.
fn name_of(unit: &Logical) -> Option<String> {
    match unit {
        Logical::Literal(ScalarValue::Utf8(Some(name)), _) => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

fn of(kind: ExprKind, data_type: DataType) -> Expr {
    Expr { kind, data_type }
}

fn arithmetic(op: ArithmeticOp, left: Expr, right: Expr, to: DataType) -> Expr {
    of(ExprKind::Arithmetic(op, Box::new(left), Box::new(right)), to)
}

pub(super) fn add_months(to: Expr, months: Expr) -> Expr {
    let data_type = to.data_type.clone();
    of(ExprKind::AddMonths(Box::new(to), Box::new(months)), data_type)
}

/// A time so much later.
fn plus(time: Expr, us: i64) -> Expr {
    let to = time.data_type.clone();
    if us == 0 { time } else { arithmetic(ArithmeticOp::Add, time, long(us), to) }
}

/// The first such day of the week, from Monday, 0, on, behind a date.
fn next_day(date: Expr, day: i64) -> Expr {
    let int = |value: i64| Expr::literal(Literal::Int(value), DataType::Int32);
    let of_int = |op, left, right| arithmetic(op, left, right, DataType::Int32);
    let weekday =
        of(ExprKind::DatePart(DatePart::Weekday, Box::new(date.clone())), DataType::Int32);
    let ahead = of_int(ArithmeticOp::Subtract, int(day + 6), weekday);
    let ahead = of_int(ArithmeticOp::Remainder, ahead, int(7));
    let ahead = of_int(ArithmeticOp::Add, ahead, int(1));
    arithmetic(ArithmeticOp::Add, date, ahead, DataType::Date32)
}

fn long(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), DataType::Int64)
}

fn epoch(data_type: DataType) -> Expr {
    Expr::literal(Literal::Int(0), data_type)
}

/// Microseconds since 1970.
fn us_of(time: Expr) -> Expr {
    let epoch = epoch(time.data_type.clone());
    arithmetic(ArithmeticOp::Subtract, time, epoch, DataType::Int64)
}
