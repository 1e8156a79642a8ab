//! Text to booleans, integers, floats and decimals: exactly what `str::parse` gives, or nothing.
//!
//! These are the complete readings of any text. Most numbers never come here: [`super::digits`] reads
//! the frequent shapes.

/// `str::parse::<i64>`: an optional sign and decimal digits, in range.
pub(super) fn int(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `str::parse::<f64>`, but a number too large for a double is none: nothing becomes infinite
/// silently.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || names_no_number(text)).then_some(value)
}

/// `str::parse::<f32>`, but a number too large for a float is none.
pub(super) fn float(text: &[u8]) -> Option<f32> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f32 = text.parse().ok()?;
    (value.is_finite() || names_no_number(text)).then_some(value)
}

/// `inf`, `infinity`, `nan` in any case, as opposed to digits.
fn names_no_number(text: &str) -> bool {
    !text.bytes().any(|b| b.is_ascii_digit())
}

/// The spellings of Spark's cast, in any case.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()));
    if is(&["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Digits that a `DECIMAL` can hold.
const DECIMAL_DIGITS: u32 = 38;

/// Reads `[+-]?[0-9]*(\.[0-9]*)?([eE][+-]?[0-9]+)?` as an unscaled value of `precision` digits, `scale`
/// of them decimals. A digit beyond the scale must be zero: nothing is rounded.
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (text, exponent) = match text.iter().position(|b| b.eq_ignore_ascii_case(&b'e')) {
        Some(e) => (&text[..e], exponent(&text[e + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    // Zeros at the end wait until a digit follows them, so that they never overflow.
    let mut unscaled: i128 = 0;
    let mut zeros = 0u32;
    for &b in whole.iter().chain(fraction) {
        match b {
            b'0' => zeros = zeros.saturating_add(1),
            b'1'..=b'9' => {
                if unscaled != 0 {
                    unscaled = times_ten_to(unscaled, i64::from(zeros) + 1)?;
                }
                unscaled = unscaled.checked_add(i128::from(b - b'0'))?;
                zeros = 0;
            }
            _ => return None,
        }
    }
    if unscaled == 0 {
        return Some(0);
    }
    let power = i64::from(zeros) + i64::from(scale) + exponent - fraction.len() as i64;
    let unscaled = if power < 0 { return None } else { times_ten_to(unscaled, power)? };
    if unscaled >= 10i128.pow(u32::from(precision).min(DECIMAL_DIGITS)) {
        return None;
    }
    Some(if negative { -unscaled } else { unscaled })
}

fn times_ten_to(value: i128, power: i64) -> Option<i128> {
    let power = u32::try_from(power).ok().filter(|&p| p <= DECIMAL_DIGITS)?;
    value.checked_mul(10i128.pow(power))
}

/// An exponent; beyond a million the value is out of range of any decimal, whatever its digits.
fn exponent(text: &[u8]) -> Option<i64> {
    int(text).map(|e| e.clamp(-1_000_000_000_000, 1_000_000_000_000))
}
