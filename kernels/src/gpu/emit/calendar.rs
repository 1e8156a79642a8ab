//! Dates, times of day and the units that they lie in, as `cpu::project::calendar` has them: calls of
//! `calendar.wgsl`.

use arrow::datatypes::DataType;

use super::super::form::long_literal;
use super::{Emitter, Value, and};
use crate::cpu::project::calendar::unit_us;
use crate::expr::{CalendarUnit, ClockPart, DatePart, Expr};

impl Emitter<'_> {
    pub(super) fn date_part(&mut self, part: DatePart, date: &Expr) -> Value {
        let function = match part {
            DatePart::Year => "year_of",
            DatePart::Quarter => "quarter_of",
            DatePart::Month => "month_of",
            DatePart::Day => "day_of",
            DatePart::DayOfYear => "day_of_year",
            DatePart::DayOfWeek => "day_of_week",
            DatePart::DayOfWeekIso => "day_of_week_iso",
            DatePart::Weekday => "weekday_of",
            DatePart::WeekOfYear => "week_of_year",
            DatePart::YearOfWeek => "year_of_week",
        };
        let date = self.evaluate(date);
        let v = self.name("i32", &format!("{function}({})", date.v));
        self.null_unless("is_in_calendar", date, v)
    }

    pub(super) fn clock_part(&mut self, part: ClockPart, time: &Expr) -> Value {
        let (cycle, unit) = match part {
            ClockPart::Hour => (CalendarUnit::Day, CalendarUnit::Hour),
            ClockPart::Minute => (CalendarUnit::Hour, CalendarUnit::Minute),
            ClockPart::Second => (CalendarUnit::Minute, CalendarUnit::Second),
        };
        let time = self.evaluate(time);
        let (cycle, unit) = (length(cycle), length(unit));
        self.in_calendar("i32", &format!("clock_part({}, {cycle}, {unit})", time.v), &time)
    }

    pub(super) fn truncate(&mut self, unit: CalendarUnit, of: &Expr) -> Value {
        let start = match unit {
            CalendarUnit::Week => Some("week_start"),
            CalendarUnit::Month => Some("month_start"),
            CalendarUnit::Quarter => Some("quarter_start"),
            CalendarUnit::Year => Some("year_start"),
            _ => None,
        };
        let value = self.evaluate(of);
        if of.data_type == DataType::Date32 {
            let v = start.map_or(value.v.clone(), |start| format!("{start}({})", value.v));
            let v = self.name("i32", &v);
            return self.null_unless("is_in_calendar", value, v);
        }
        let v = match start {
            Some(start) => format!("midnight({start}(day_of_time({})))", value.v),
            None => format!("floored({}, {})", value.v, length(unit)),
        };
        let v = self.name("vec2<u32>", &v);
        self.null_unless("is_time_in_calendar", value, v)
    }

    pub(super) fn last_day(&mut self, date: &Expr) -> Value {
        let date = self.evaluate(date);
        let v = self.name("i32", &format!("last_day({})", date.v));
        self.null_unless("is_in_calendar", date, v)
    }

    pub(super) fn add_months(&mut self, to: &Expr, months: &Expr) -> Value {
        let function = match to.data_type {
            DataType::Date32 => "add_months",
            _ => "add_months_to_time",
        };
        self.checked_calendar(function, to, months)
    }

    pub(super) fn whole_months(&mut self, start: &Expr, end: &Expr) -> Value {
        self.checked_calendar("whole_months", start, end)
    }

    fn checked_calendar(&mut self, function: &str, left: &Expr, right: &Expr) -> Value {
        self.asks_calendar = true;
        let (a, b) = (self.evaluate(left), self.evaluate(right));
        self.checked(&format!("{function}({}, {})", a.v, b.v), "false", &[&a, &b])
    }

    /// A time moved by `function`, between what clocks show and instants.
    pub(super) fn moved(&mut self, function: &str, ahead_us: i64, time: &Expr) -> Value {
        let time = self.evaluate(time);
        let call = format!("{function}({}, {})", time.v, long_literal(ahead_us as u64));
        self.in_calendar("vec2<u32>", &call, &time)
    }

    fn in_calendar(&mut self, type_name: &str, call: &str, operand: &Value) -> Value {
        self.asks_calendar = true;
        self.plain(type_name, call, &[operand])
    }

    /// `v`, made of an operand, and NULL where the calendar does not have that one.
    fn null_unless(&mut self, has: &str, operand: Value, v: String) -> Value {
        self.asks_calendar = true;
        let ok = self.bool_name(and(&operand.ok, &format!("{has}({})", operand.v)));
        Value { v, ok, failed: operand.failed }
    }
}

fn length(unit: CalendarUnit) -> String {
    long_literal(unit_us(unit) as u64)
}
