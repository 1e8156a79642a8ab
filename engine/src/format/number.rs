//! Numbers as text: integers, decimals, and the shortest digits of doubles in two layouts.

/// Decimal exponents of the first digit from which on a number is laid out as `1.5e+16`.
pub struct Layout {
    /// Below this the form with an exponent is used.
    least: i32,
    /// From this on the form with an exponent is used.
    beyond: i32,
    form: Form,
}

#[derive(PartialEq)]
enum Form {
    /// `1e+16`, `1.5e-07`: Python's `repr`, of doubles in files.
    Python,
    /// `1.0E16`, `1.5E-7`: `Double.toString` and `Float.toString`, of all on the console.
    Java,
}

/// Doubles in files.
pub const PYTHON: Layout = Layout { least: -4, beyond: 16, form: Form::Python };
/// Doubles on the console; floats everywhere (as Spark prints them).
pub const JAVA: Layout = Layout { least: -3, beyond: 7, form: Form::Java };

pub fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest text that reads back to the same bits; `NaN`, `Infinity`, `-Infinity`.
pub fn double(out: &mut Vec<u8>, value: f64, layout: &Layout) {
    let size = value.abs();
    if !value.is_finite() {
        non_finite(out, value);
    } else if layout.form == Form::Python && (size == 0.0 || (1e-4..1e16).contains(&size)) {
        if !short(out, value) {
            // The layout that zmij has by itself.
            out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        }
    } else {
        lay_out(out, zmij::Buffer::new().format_finite(value).as_bytes(), layout);
    }
}

/// The shortest text that reads back to the same bits as a float.
pub fn float(out: &mut Vec<u8>, value: f32, layout: &Layout) {
    if value.is_finite() {
        lay_out(out, zmij::Buffer::new().format_finite(value).as_bytes(), layout);
    } else {
        non_finite(out, f64::from(value));
    }
}

fn non_finite(out: &mut Vec<u8>, value: f64) {
    let text = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    out.extend_from_slice(text.as_bytes());
}

/// Writes a double that a decimal of at most four decimals and fifteen digits names: most measurements.
///
/// Two decimals of at most fifteen digits never name one double, so this is the shortest. The integer
/// and the power of ten are exact, so their quotient is the double that the decimal names.
fn short(out: &mut Vec<u8>, value: f64) -> bool {
    let size = value.abs();
    let scaled = (size * 1e4 + 0.5) as u64;
    if scaled >= 1_000_000_000_000_000 || scaled as f64 / 1e4 != size {
        return false;
    }
    let (mut whole, fraction) = (scaled / 10_000, (scaled % 10_000) as u32);
    // Sign, eleven digits, point, four digits; written from the end.
    let mut text = [b'.'; 17];
    let digit = |number: u32| b'0' + (number % 10) as u8;
    text[13..].copy_from_slice(&[1000, 100, 10, 1].map(|unit| digit(fraction / unit)));
    let zeros = match fraction {
        _ if !fraction.is_multiple_of(10) => 0,
        _ if !fraction.is_multiple_of(100) => 1,
        _ if !fraction.is_multiple_of(1000) => 2,
        _ => 3,
    };
    let mut start = 12;
    loop {
        start -= 1;
        text[start] = digit((whole % 10) as u32);
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if value.is_sign_negative() {
        start -= 1;
        text[start] = b'-';
    }
    out.extend_from_slice(&text[start..text.len() - zeros]);
    true
}

/// Takes the digits and the exponent out of a number's text and lays them out anew.
fn lay_out(out: &mut Vec<u8>, text: &[u8], layout: &Layout) {
    // A double has at most 17 digits; its text without exponent at most 16 + 5 zeros.
    let mut digits = [b'0'; 32];
    let mut count = 0;
    let mut point = None;
    let mut written_exponent = 0;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'-' => out.push(b'-'),
            b'.' => point = Some(count),
            b'e' => {
                let exponent = std::str::from_utf8(&text[at + 1..]).expect("the text is ASCII");
                written_exponent = exponent.parse::<i32>().expect("an exponent is a number");
                break;
            }
            digit => {
                digits[count] = digit;
                count += 1;
            }
        }
    }
    let all = &digits[..count];
    let zeros = all.iter().take_while(|&&digit| digit == b'0').count();
    let end = all.iter().rposition(|&digit| digit != b'0').map_or(zeros, |last| last + 1);
    if zeros == count {
        out.extend_from_slice(b"0.0");
        return;
    }
    let exponent = point.unwrap_or(count) as i32 - 1 - zeros as i32 + written_exponent;
    let digits = &all[zeros..end];
    if exponent < layout.least || exponent >= layout.beyond {
        with_exponent(out, digits, exponent, &layout.form);
    } else {
        positional(out, digits, exponent);
    }
}

fn positional(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
        return;
    }
    let whole = exponent as usize + 1;
    let split = whole.min(digits.len());
    out.extend_from_slice(&digits[..split]);
    out.extend(std::iter::repeat_n(b'0', whole - split));
    out.push(b'.');
    out.extend_from_slice(if split < digits.len() { &digits[split..] } else { b"0" });
}

fn with_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32, form: &Form) {
    out.push(digits[0]);
    match form {
        Form::Python => {
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            if exponent.unsigned_abs() < 10 {
                out.push(b'0');
            }
            integer(out, exponent.unsigned_abs());
        }
        Form::Java => {
            out.push(b'.');
            out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
            out.push(b'E');
            integer(out, exponent);
        }
    }
}

/// `unscaled × 10^-scale` with all its digits and no exponent.
pub fn decimal(out: &mut Vec<u8>, unscaled: i128, scale: i8) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    if unscaled < 0 {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend_from_slice(digits);
        if unscaled != 0 {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = usize::from(scale.unsigned_abs());
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4, with padding.
pub fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            out.push(if place <= group.len() { BASE64[sextet as usize] } else { b'=' });
        }
    }
}
