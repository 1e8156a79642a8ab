//! `to_number` and `to_char` of numbers: Spark's formats, after its `ToNumberParser`.
//!
//! `[MI|S] [$] [0|9|G|,]… [.|D [0|9]…] [$] [PR|MI|S]`. Digits that begin with 0 before the point are
//! there in full, others may be fewer; a decimal has as many places as its format. A number that does
//! not fit its format is written as `#`, a text that does not is an error of its row.

/// A format, read once.
#[derive(Debug, PartialEq, Eq)]
pub struct NumberFormat {
    tokens: Vec<Token>,
    text: String,
    pub precision: u8,
    pub scale: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Digits between commas.
    Digits(Vec<Group>),
    Point,
    Dollar,
    /// `S`: a plus or a minus.
    Sign,
    /// `MI`: a minus or nothing.
    Minus,
    /// `PR`: angle brackets around a negative number.
    Open,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    count: usize,
    /// All of them must be there.
    exact: bool,
}

impl NumberFormat {
    /// Errors: what is wrong with the format, in Spark's words.
    pub fn parse(text: &str) -> Result<NumberFormat, String> {
        let invalid =
            |why: &str| Err(format!("INVALID_FORMAT: the format {text:?} is invalid: {why}"));
        if text.is_empty() {
            return invalid("it is empty");
        }
        let mut tokens = tokens(text)?;
        if tokens.contains(&Token::Close) {
            tokens.insert(0, Token::Open);
        }
        let point = tokens.iter().position(|token| *token == Token::Point);
        let digits = tokens.iter().position(|token| matches!(token, Token::Digits(_)));
        let Some(digits) = digits else { return invalid("it requires at least one digit") };
        let dollar = tokens.iter().position(|token| *token == Token::Dollar);
        if dollar.is_some_and(|dollar| digits < dollar) {
            return invalid("currency characters must appear before digits");
        }
        for (at, token) in tokens.iter().enumerate() {
            let Token::Digits(groups) = token else { continue };
            if groups.iter().any(|group| group.count == 0) {
                return invalid("thousands separators must have digits in between them");
            }
            if point.is_some_and(|point| at > point) && groups.len() > 1 {
                return invalid("thousands separators may not appear after the decimal point");
            }
        }
        let in_order: [&[Token]; 8] = [
            &[Token::Open],
            &[Token::Minus, Token::Sign],
            &[Token::Dollar],
            &[Token::Digits(Vec::new())],
            &[Token::Point],
            &[Token::Digits(Vec::new())],
            &[Token::Dollar],
            &[Token::Minus, Token::Sign, Token::Close],
        ];
        let mut rest = tokens.as_slice();
        for allowed in in_order {
            let same = |known: &Token, token: &Token| match known {
                Token::Digits(_) => matches!(token, Token::Digits(_)),
                known => known == token,
            };
            if let [token, after @ ..] = rest
                && allowed.iter().any(|known| same(known, token))
            {
                rest = after;
            }
        }
        if !rest.is_empty() {
            return invalid("it has a token where none of its kind may stand");
        }
        let count = |tokens: &[Token]| -> usize {
            let groups = tokens.iter().filter_map(|token| match token {
                Token::Digits(groups) => {
                    Some(groups.iter().map(|group| group.count).sum::<usize>())
                }
                _ => None,
            });
            groups.sum()
        };
        let (all, after) = (count(&tokens), point.map_or(0, |point| count(&tokens[point..])));
        if all > 38 {
            return invalid("it has more than 38 digits");
        }
        let (precision, scale) = (all as u8, after as u8);
        Ok(NumberFormat { tokens, text: text.into(), precision, scale })
    }

    /// The number, times ten to the scale.
    ///
    /// Errors: a text of another form.
    pub fn read(&self, text: &str) -> Result<i128, String> {
        let mismatch = || {
            let format = &self.text;
            format!(
                "INVALID_FORMAT.MISMATCH_INPUT: the text {text:?} does not match the format {format:?}"
            )
        };
        let chars: Vec<char> = text.chars().collect();
        let (mut at, mut negative, mut past_point) = (0, false, false);
        let (mut opened, mut closed) = (false, false);
        let (mut whole, mut fraction) = (String::new(), String::new());
        for token in &self.tokens {
            let next = chars.get(at).copied();
            match (token, next) {
                (Token::Digits(groups), _) => {
                    let digits = if past_point { &mut fraction } else { &mut whole };
                    at = read_digits(groups, &chars, at, digits).ok_or_else(mismatch)?;
                }
                (Token::Point, Some('.')) => (past_point, at) = (true, at + 1),
                (Token::Dollar, Some('$')) | (Token::Sign, Some('+')) => at += 1,
                (Token::Dollar, Some(_)) => return Err(mismatch()),
                (Token::Sign | Token::Minus, Some('-')) => (negative, at) = (!negative, at + 1),
                (Token::Open, Some('<')) => (opened, at) = (true, at + 1),
                (Token::Close, Some('>')) if opened => {
                    (closed, negative, at) = (true, !negative, at + 1);
                }
                _ => {}
            }
        }
        if at < chars.len() || opened != closed || whole.is_empty() && fraction.is_empty() {
            return Err(mismatch());
        }
        while fraction.len() < usize::from(self.scale) {
            fraction.push('0');
        }
        let number: i128 = format!("0{whole}{fraction}").parse().map_err(|_| mismatch())?;
        Ok(if negative { -number } else { number })
    }

    /// A number as this format writes it. `scale`: its own.
    pub fn write(&self, number: i128, scale: u8) -> String {
        let digits = format!("{:0>width$}", number.unsigned_abs(), width = usize::from(scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let after = usize::from(self.scale);
        let before = usize::from(self.precision) - after;
        let (whole, fraction) = match whole.len() > before || fraction.len() > after {
            true => ("#".repeat(before), "#".repeat(after)),
            false => (format!("{whole:>before$}"), format!("{fraction:0<after$}")),
        };
        let mut out = Written { text: Vec::new(), negative: number < 0 };
        let (mut whole, mut fraction) = (whole.chars(), fraction.chars());
        let mut past_point = false;
        for token in &self.tokens {
            match token {
                Token::Digits(_) if past_point => out.text.extend(fraction.by_ref()),
                Token::Digits(groups) => out.digits(groups, &mut whole),
                Token::Point => {
                    if out.text.last() == Some(&' ') {
                        out.text.pop();
                        out.text.push('0');
                    }
                    out.text.push('.');
                    past_point = true;
                }
                token => out.around(token),
            }
        }
        out.strip_lone_point();
        let text: String = out.text.into_iter().collect();
        if matches!(text.as_str(), "" | "+" | "-") { "0".into() } else { text }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let upper: Vec<char> = text.to_uppercase().chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut past_point) = (0, false);
    while at < upper.len() {
        let (token, length) = match (upper[at], upper.get(at + 1)) {
            ('0' | '9' | ',' | 'G', _) => {
                let end = upper[at..].iter().position(|c| !matches!(c, '0' | '9' | ',' | 'G'));
                let length = end.unwrap_or(upper.len() - at);
                (Token::Digits(groups(&upper[at..at + length], past_point)), length)
            }
            ('.' | 'D', _) => (Token::Point, 1),
            ('$', _) => (Token::Dollar, 1),
            ('S', _) => (Token::Sign, 1),
            ('M', Some('I')) => (Token::Minus, 2),
            ('P', Some('R')) => (Token::Close, 2),
            (other, _) => {
                return Err(format!(
                    "INVALID_FORMAT: the format {text:?} is invalid: {other:?} stands for nothing"
                ));
            }
        };
        past_point |= token == Token::Point;
        tokens.push(token);
        at += length;
    }
    Ok(tokens)
}

/// Digits between commas. A run of digits that changes from 9 to 0 is one run.
fn groups(chars: &[char], past_point: bool) -> Vec<Group> {
    let group = |digits: &[char]| Group {
        count: digits.len(),
        exact: digits.first() == Some(&'0') && !past_point,
    };
    chars.split(|c| matches!(c, ',' | 'G')).map(group).collect()
}

/// Digits and commas from `at` on; where they end. `None`: more or fewer than the groups allow.
fn read_digits(groups: &[Group], chars: &[char], at: usize, digits: &mut String) -> Option<usize> {
    let mut sizes = vec![0];
    let mut end = at;
    while let Some(&char) = chars.get(end) {
        match char {
            c if c.is_whitespace() => {}
            c if c.is_ascii_digit() => {
                digits.push(c);
                *sizes.last_mut().expect("it has one at least") += 1;
            }
            ',' => sizes.push(0),
            _ => break,
        }
        end += 1;
    }
    if sizes.len() > groups.len() {
        return None;
    }
    // The last group is the one of units.
    let found = sizes.iter().rev().copied().chain(std::iter::repeat(0));
    let fits = groups.iter().rev().zip(found).all(|(group, found)| match group.exact {
        true => found == group.count,
        false => found <= group.count,
    });
    fits.then_some(end)
}

struct Written {
    text: Vec<char>,
    negative: bool,
}

impl Written {
    fn digits(&mut self, groups: &[Group], digits: &mut std::str::Chars) {
        for (number, group) in groups.iter().enumerate() {
            if number > 0 {
                match self.text.last().is_some_and(char::is_ascii_digit) {
                    true => self.text.push(','),
                    false => self.space(),
                }
            }
            for digit in digits.by_ref().take(group.count) {
                match digit {
                    ' ' if group.exact => self.text.push('0'),
                    ' ' => self.space(),
                    digit => self.text.push(digit),
                }
            }
        }
    }

    /// A space stands before a sign, not behind it.
    fn space(&mut self) {
        let signs = self.text.iter().rev().take_while(|c| matches!(c, '+' | '-' | '<')).count();
        self.text.insert(self.text.len() - signs, ' ');
    }

    /// A sign stands before spaces, not behind them.
    fn sign(&mut self, sign: char) {
        let spaces = self.text.iter().rev().take_while(|c| **c == ' ').count();
        self.text.insert(self.text.len() - spaces, sign);
    }

    fn around(&mut self, token: &Token) {
        match (token, self.negative) {
            (Token::Dollar, _) => self.text.push('$'),
            (Token::Sign, negative) => {
                self.strip_lone_point();
                self.sign(if negative { '-' } else { '+' });
            }
            (Token::Minus, true) => {
                self.strip_lone_point();
                self.sign('-');
            }
            (Token::Minus, false) => self.text.push(' '),
            (Token::Open, true) => self.text.push('<'),
            (Token::Close, negative) => {
                self.strip_lone_point();
                match negative {
                    true => self.sign('>'),
                    false => self.text.extend([' ', ' ']),
                }
            }
            _ => {}
        }
    }

    /// A point without digits behind it is left out.
    fn strip_lone_point(&mut self) {
        let point = self.text.iter().position(|c| *c == '.');
        if let Some(point) = point
            && matches!(self.text.get(point + 1), None | Some(' '))
        {
            self.text[point] = ' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decimal as plain text.
    fn plain(number: i128, scale: u8) -> String {
        let digits = format!("{:0>width$}", number.unsigned_abs(), width = usize::from(scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
        let sign = if number < 0 { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }

    fn read(text: &str, format: &str) -> String {
        match NumberFormat::parse(format) {
            Ok(format) => match format.read(text) {
                Ok(number) => plain(number, format.scale),
                Err(_) => "mismatch".into(),
            },
            Err(why) => why,
        }
    }

    /// The examples of Spark's documentation and of its `ToNumberParser` tests, and edges of its code.
    #[test]
    fn texts_are_read_by_sparks_formats() {
        let check = |text, format, expected| assert_eq!(read(text, format), expected, "{format}");
        check("454", "999", "454");
        check("454.00", "000.00", "454.00");
        check("12,454", "99,999", "12454");
        check("$78.12", "$99.99", "78.12");
        check("12,454.8-", "99,999.9S", "-12454.8");
        check("-454", "S999", "-454");
        check("<123>", "999PR", "-123");
        check("123", "999PR", "123");
        check("454", "000", "454");
        check("54", "000", "mismatch");
        check("54", "999", "54");
        check("1234", "999", "mismatch");
        check("4.5", "9.99", "4.50");
        check("45", "99.99", "45.00");
        check(".5", "9.9", "0.5");
        check("1,23,456", "9G999G999", "123456");
        check("1234567", "9,999,999", "mismatch");
        check("", "999", "mismatch");
        check("12a", "999", "mismatch");
        check("12 3", "999", "123");
        check("<12", "999PR", "mismatch");
        check("78.12", "$99.99", "mismatch");
    }

    #[test]
    fn numbers_are_written_by_sparks_formats() {
        let check = |number: i128, scale, format: &str, expected: &str| {
            let format = NumberFormat::parse(format).unwrap();
            assert_eq!(format.write(number, scale), expected, "{number} {format:?}");
        };
        check(454, 0, "999", "454");
        check(45_400, 2, "000D00", "454.00");
        check(12_454, 0, "99G999", "12,454");
        check(7_812, 2, "$99.99", "$78.12");
        check(-124_548, 1, "99G999D9S", "12,454.8-");
        check(12, 0, "9999", "  12");
        check(12, 0, "0000", "0012");
        check(12, 0, "S9999", "  +12");
        check(-12, 0, "9999MI", "  12-");
        check(12, 0, "9999MI", "  12 ");
        check(-12, 0, "99PR", "<12>");
        check(1_234, 0, "99", "##");
        check(5, 1, "9.99", "0.50");
        check(5, 1, ".99", ".50");
        check(0, 0, "9", " ");
    }

    #[test]
    fn a_wrong_format_is_told() {
        let check = |format, expected: &str| {
            let found = NumberFormat::parse(format).unwrap_err();
            assert!(found.contains(expected), "{format}: {found}");
        };
        check("", "empty");
        check("S", "at least one digit");
        check("99$", "currency");
        check(",99", "digits in between");
        check("9.9,9", "after the decimal point");
        check("9S9", "none of its kind");
        check("9x", "stands for nothing");
    }
}
