//! Text to booleans, integers, floats and decimals: exactly what `str::parse` gives, or nothing.
//!
//! Each type has a complete reading of any text, which the tests hold against the reference, and the
//! frequent shapes have a quick one that works on eight bytes at a time (Lemire, "Quickly parsing
//! eight digits", 2018). A quick reading that says `None` says nothing about the text: the complete
//! one decides.

/// Bytes from a field's first on that a quick reading looks at: a sign and two words, with room.
const WINDOW: usize = 24;

/// Calls `read` with the bytes from `start` on, zeros past the end, and the field's length: one bounds
/// check for all loads.
#[inline(always)]
fn in_window<T>(
    bytes: &[u8],
    start: u32,
    end: u32,
    read: impl Fn(&[u8; WINDOW], usize) -> Option<T> + Copy,
) -> Option<T> {
    let length = end.wrapping_sub(start) as usize;
    let start = start as usize;
    match bytes.get(start..start + WINDOW) {
        Some(window) => read(window.try_into().expect("the window's size"), length),
        None => in_last_window(bytes, start, length, read),
    }
}

#[cold]
#[inline(never)]
fn in_last_window<T>(
    bytes: &[u8],
    start: usize,
    length: usize,
    read: impl Fn(&[u8; WINDOW], usize) -> Option<T>,
) -> Option<T> {
    let mut window = [0; WINDOW];
    let rest = bytes.get(start..)?;
    window[..rest.len()].copy_from_slice(rest);
    read(&window, length)
}

/// The eight bytes at `at`.
#[inline(always)]
fn load8(window: &[u8; WINDOW], at: usize) -> u64 {
    u64::from_le_bytes(window[at..at + 8].try_into().expect("eight bytes"))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const ZEROS: u64 = b'0' as u64 * ONES;

/// Every byte is 0 to 9.
#[inline(always)]
fn all_digits(digits: u64) -> bool {
    (digits.wrapping_add(0x76 * ONES) | digits) & (0x80 * ONES) == 0
}

/// The value of eight digits (not characters), the first in the lowest byte.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let mask = 0x0000_00FF_0000_00FF;
    let first = (pairs & mask).wrapping_mul(100 + (1_000_000 << 32));
    let second = ((pairs >> 16) & mask).wrapping_mul(1 + (10_000 << 32));
    first.wrapping_add(second) >> 32
}

/// The first `length` bytes (1 to 8) of the word as digits, moved to its end, zeros before them.
#[inline(always)]
fn right_justify(word: u64, length: usize) -> u64 {
    (word ^ ZEROS) << (64 - 8 * length)
}

/// Quick reading of `-?[0-9]{1,16}` at `start..end`.
#[inline(always)]
pub(super) fn quick_int(bytes: &[u8], start: u32, end: u32) -> Option<i64> {
    in_window(bytes, start, end, |window, length| {
        // Without a branch: signs are as random as the data, and a mispredicted one costs more than
        // all the digits.
        let negative = window[0] == b'-';
        let first = usize::from(negative);
        let length = length.wrapping_sub(first);
        let word = load8(window, first);
        let magnitude = if length.wrapping_sub(1) < 8 {
            let digits = right_justify(word, length);
            if !all_digits(digits) {
                return None;
            }
            eight_digits(digits)
        } else if length.wrapping_sub(9) < 8 {
            let high = right_justify(word, length - 8);
            let low = load8(window, first + length - 8) ^ ZEROS;
            if !(all_digits(high) && all_digits(low)) {
                return None;
            }
            eight_digits(high) * 100_000_000 + eight_digits(low)
        } else {
            return None;
        };
        let sign = -i64::from(negative);
        Some((magnitude as i64 ^ sign) - sign)
    })
}

/// `str::parse::<i64>`: an optional sign and decimal digits, in range.
pub(super) fn int(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Quick reading of `-?[0-9]*(\.[0-9]*)?` with up to 16 characters after the sign, one a digit.
///
/// With a dot these are at most 15 digits: they and the power of ten are exact in a double, so their
/// quotient is the nearest double (Clinger, "How to read floating point numbers accurately", 1990).
/// Sixteen digits without a dot are rounded once, by the conversion.
#[inline(always)]
pub(super) fn quick_double(bytes: &[u8], start: u32, end: u32) -> Option<f64> {
    let (digits, decimals, negative) = quick_fixed_point(bytes, start, end)?;
    let magnitude = digits as f64 / POWERS_OF_TEN[decimals];
    Some(f64::from_bits(magnitude.to_bits() | (u64::from(negative) << 63)))
}

/// As [`quick_double`]; digits up to 2^24 and powers up to 10^10 are exact in a float.
#[inline(always)]
pub(super) fn quick_float(bytes: &[u8], start: u32, end: u32) -> Option<f32> {
    let (digits, decimals, negative) = quick_fixed_point(bytes, start, end)?;
    if digits > 1 << 24 || decimals > 10 {
        return None;
    }
    let magnitude = digits as f32 / POWERS_OF_TEN[decimals] as f32;
    Some(if negative { -magnitude } else { magnitude })
}

/// All digits as one integer, the number of decimals, and whether a minus stands before them.
#[inline(always)]
fn quick_fixed_point(bytes: &[u8], start: u32, end: u32) -> Option<(i64, usize, bool)> {
    in_window(bytes, start, end, |window, length| {
        let negative = window[0] == b'-';
        let first = usize::from(negative);
        let length = length.wrapping_sub(first);
        let word = load8(window, first);
        if length.wrapping_sub(1) >= 8 {
            let (digits, decimals) = quick_fixed_point_16(word, load8(window, first + 8), length)?;
            return Some((digits as i64, decimals, negative));
        }
        let (digits, count, decimals) = without_dot(word, length);
        if count == 0 {
            return None;
        }
        let digits = digits << (64 - 8 * count);
        all_digits(digits).then(|| (eight_digits(digits) as i64, decimals, negative))
    })
}

/// Takes the first dot out of the first `length` bytes (1 to 8): digits from the lowest byte on, how
/// many, and how many of them stood after the dot.
#[inline(always)]
fn without_dot(word: u64, length: usize) -> (u64, usize, usize) {
    let digits = word ^ ZEROS;
    // Zero-byte test: exact for the lowest zero, the only one asked for.
    let dots = digits ^ (u64::from(b'.' ^ b'0') * ONES);
    let found = dots.wrapping_sub(ONES) & !dots & (0x80 * ONES);
    let dot = (found.trailing_zeros() / 8) as usize;
    if dot >= length {
        return (digits, length, 0);
    }
    let before = (1u64 << (8 * dot)) - 1;
    ((digits & before) | ((digits >> 8) & !before), length - 1, length - 1 - dot)
}

/// As [`quick_fixed_point`] for 9 to 16 characters without sign, in two words.
#[inline(always)]
fn quick_fixed_point_16(first: u64, second: u64, length: usize) -> Option<(u64, usize)> {
    if length.wrapping_sub(9) >= 8 {
        return None;
    }
    let rest = length - 8;
    let (head, head_count, head_decimals) = without_dot(first, 8);
    let (tail, tail_count, tail_decimals) = match head_count {
        8 => without_dot(second, rest),
        // A second dot is no digit and is found below.
        _ => (second ^ ZEROS, rest, rest),
    };
    let head = head << (64 - 8 * head_count);
    let tail = if tail_count == 0 { 0 } else { tail << (64 - 8 * tail_count) };
    if !(all_digits(head) && all_digits(tail)) {
        return None;
    }
    let shift = POWERS_OF_TEN_INT[tail_count];
    let decimals = if head_count == 8 { tail_decimals } else { head_decimals + rest };
    Some((eight_digits(head) * shift + eight_digits(tail), decimals))
}

const POWERS_OF_TEN_INT: [u64; 9] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

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
