// Dates, times of day, the units that they lie in, and the clocks of zones that never change theirs. Twin of
// `cpu::project::calendar`, with its names and its sources; for both tiers: a day is 32 bits, a time divided once.

const DAY_US = vec2<u32>(0x1dd76000u, 0x14u);
const FIRST_DAY = -4371587i;
const LAST_DAY = 2932896i;
const FIRST_US = vec2<u32>(0x8b49e000u, 0xfac21f32u);
const LAST_US = vec2<u32>(0xcc735fffu, 0x384440cu);
const FIRST_INSTANT = vec2<u32>(0x563945c0u, 0xfac21f48u);
const LAST_INSTANT = vec2<u32>(0x183fa3fu, 0x38443f7u);

const DAYS_BEFORE = 4371893i;
const YEARS_BEFORE = 10000i;
const DAYS_PER_ERA = 146097u;
const LAST_YEAR = 9999i;
const MONTHS_MAX = 240000i;

struct Civil { year: i32, month: i32, day: i32 }

fn is_in_calendar(day: i32) -> bool { return day >= FIRST_DAY && day <= LAST_DAY; }
fn is_time_in_calendar(us: vec2<u32>) -> bool { return !less2(us, FIRST_US) && !less2(LAST_US, us); }
fn is_instant(us: vec2<u32>) -> bool { return !less2(us, FIRST_INSTANT) && !less2(LAST_INSTANT, us); }
fn floored(us: vec2<u32>, unit: vec2<u32>) -> vec2<u32> { return sub2(us, floor_divide(us, unit).r); }
fn day_of_time(us: vec2<u32>) -> i32 { return bitcast<i32>(floor_divide(us, DAY_US).q.x); }
fn midnight(day: i32) -> vec2<u32> { return mul_long(long_of(day), DAY_US).v; }

fn civil_of(day: i32) -> Civil {
  let days = bitcast<u32>(day + DAYS_BEFORE);
  let era = days / DAYS_PER_ERA;
  let of_era = days - era * DAYS_PER_ERA;
  let year_of_era = (of_era - of_era / 1460u + of_era / 36524u - of_era / 146096u) / 365u;
  let of_year = of_era - (365u * year_of_era + year_of_era / 4u - year_of_era / 100u);
  // From March on.
  let months = (5u * of_year + 2u) / 153u;
  let month = bitcast<i32>(select(months - 9u, months + 3u, months < 10u));
  let year = bitcast<i32>(year_of_era + era * 400u) - YEARS_BEFORE + i32(month <= 2);
  return Civil(year, month, bitcast<i32>(of_year - (153u * months + 2u) / 5u + 1u));
}
// The first day of a month.
fn days_of(year: i32, month: i32) -> i32 {
  let years = bitcast<u32>(year + YEARS_BEFORE - i32(month <= 2));
  let era = years / 400u;
  let of_era = years - era * 400u;
  let months = bitcast<u32>(select(month - 3, month + 9, month <= 2));
  let days = of_era * 365u + of_era / 4u - of_era / 100u + (153u * months + 2u) / 5u;
  return bitcast<i32>(era * DAYS_PER_ERA + days) - DAYS_BEFORE;
}

fn month_end(year: i32, month: i32) -> i32 { return days_of(year + month / 12, month % 12 + 1) - 1; }
fn last_day(day: i32) -> i32 {
  let date = civil_of(day);
  return month_end(date.year, date.month);
}
fn add_months(day: i32, months: i32) -> Int {
  if (months == 0) { return Int(day, false); }
  if (!is_in_calendar(day) || months < -MONTHS_MAX || months > MONTHS_MAX) { return Int(0, true); }
  let date = civil_of(day);
  // Counted from the first year of the eras, so that none is negative that is in the calendar.
  let month = date.year * 12 + date.month - 1 + months + YEARS_BEFORE * 12;
  if (month < 12 || month > (YEARS_BEFORE + LAST_YEAR) * 12 + 11) { return Int(0, true); }
  let year = month / 12 - YEARS_BEFORE;
  let of_year = month % 12 + 1;
  return Int(min(days_of(year, of_year) + date.day - 1, month_end(year, of_year)), false);
}
fn add_months_to_time(us: vec2<u32>, months: vec2<u32>) -> Long {
  let count = narrow(months, 32u);
  let day = add_months(day_of_time(us), count.v);
  return Long(add2(midnight(day.v), floor_divide(us, DAY_US).r), count.failed || day.failed);
}
fn whole_months(start: vec2<u32>, end: vec2<u32>) -> Int {
  let day = day_of_time(start);
  let last_day = day_of_time(end);
  let time = floor_divide(start, DAY_US).r;
  let last_time = floor_divide(end, DAY_US).r;
  let early = last_day > day && less2(last_time, time);
  let late = last_day < day && less2(time, last_time);
  let first = civil_of(day);
  let last = civil_of(last_day - i32(early) + i32(late));
  let months = (last.year - first.year) * 12 + last.month - first.month;
  let whole = (months * 32 + last.day - first.day) / 32;
  return Int(whole, !is_time_in_calendar(start) || !is_time_in_calendar(end));
}

fn year_of(day: i32) -> i32 { return civil_of(day).year; }
fn quarter_of(day: i32) -> i32 { return (civil_of(day).month + 2) / 3; }
fn month_of(day: i32) -> i32 { return civil_of(day).month; }
fn day_of(day: i32) -> i32 { return civil_of(day).day; }
fn day_of_year(day: i32) -> i32 { return day - year_start(day) + 1; }
fn day_of_week(day: i32) -> i32 { return (weekday_of(day) + 1) % 7 + 1; }
fn day_of_week_iso(day: i32) -> i32 { return weekday_of(day) + 1; }
// The last day before the calendar's first one is a Sunday.
fn weekday_of(day: i32) -> i32 { return bitcast<i32>(bitcast<u32>(day - FIRST_DAY) % 7u); }
fn week_of_year(day: i32) -> i32 { return (day_of_year(week_start(day) + 3) - 1) / 7 + 1; }
fn year_of_week(day: i32) -> i32 { return year_of(week_start(day) + 3); }
fn week_start(day: i32) -> i32 { return day - weekday_of(day); }
fn month_start(day: i32) -> i32 { return day - day_of(day) + 1; }
fn quarter_start(day: i32) -> i32 {
  let date = civil_of(day);
  return days_of(date.year, (date.month - 1) / 3 * 3 + 1);
}
fn year_start(day: i32) -> i32 { return days_of(year_of(day), 1); }

// Whole units since the cycle began.
fn clock_part(us: vec2<u32>, cycle: vec2<u32>, unit: vec2<u32>) -> i32 {
  return bitcast<i32>(divide2(floor_divide(us, cycle).r, unit).q.x);
}
fn to_local(us: vec2<u32>, ahead: vec2<u32>) -> vec2<u32> { return select(us, add2(us, ahead), is_instant(us)); }
fn from_local(us: vec2<u32>, ahead: vec2<u32>) -> vec2<u32> {
  let instant = sub2(us, ahead);
  return select(us, instant, is_time_in_calendar(us) && is_instant(instant));
}
