//! Spans of time as people write them: `90m`, `2h30m`, `45` (seconds), and the idle timeout, which may be `never`.

use std::{fmt, time::Duration};

use super::{Error, Result};

/// The longest span taken: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The units, largest first, in seconds.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads a whole number of seconds, or numbers with units (`w`, `d`, `h`, `m`, `s`), largest first: `1h30m`.
///
/// # Errors
/// `Invalid`, saying what is taken.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let refused = || {
        Error::invalid(format!(
            "{text:?} is not a duration: write seconds (5400) or units, largest first (1h30m, 90m, 2d)"
        ))
    };
    let mut seconds: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refused());
    }
    let mut allowed = &UNITS[..];
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let mut tail = tail.chars();
        let scale = match tail.next() {
            None if allowed.len() == UNITS.len() => 1,
            None => return Err(refused()),
            Some(unit) => {
                let place = allowed.iter().position(|(u, _)| *u == unit).ok_or_else(refused)?;
                let (_, scale) = allowed[place];
                allowed = &allowed[place + 1..];
                scale
            }
        };
        seconds = number.checked_mul(scale).and_then(|n| seconds.checked_add(n)).ok_or_else(refused)?;
        rest = tail.as_str();
    }
    let span = Duration::from_secs(seconds);
    if span > LONGEST { Err(Error::invalid(format!("{text:?} is too long: at most ten years"))) } else { Ok(span) }
}

/// Writes a span so that [`parse_duration`] reads it back: `2h30m`. Parts of a second are dropped.
pub fn format_duration(span: Duration) -> String {
    let mut rest = span.as_secs();
    let mut text = String::new();
    for (unit, scale) in UNITS.into_iter().skip(1) {
        if rest >= scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// After how long something happens to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// After this span.
    After(Duration),
    /// Not at all.
    Never,
}

impl Timeout {
    /// Reads seconds, a duration, or `never`.
    ///
    /// # Errors
    /// `Invalid` for anything else, zero included.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim() == "never" {
            return Ok(Self::Never);
        }
        match parse_duration(text) {
            Ok(Duration::ZERO) => Err(Error::invalid("0 would be at once: give at least 1 second, or \"never\"")),
            Ok(span) => Ok(Self::After(span)),
            Err(error) => Err(Error::invalid(format!("{}, or \"never\"", error.message()))),
        }
    }

    /// The span, `None` for never.
    pub fn span(self) -> Option<Duration> {
        match self {
            Self::After(span) => Some(span),
            Self::Never => None,
        }
    }

    /// Whole seconds, `None` for never.
    pub fn seconds(self) -> Option<u64> {
        self.span().map(|s| s.as_secs())
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(span) => write!(f, "{}", span.as_secs()),
            Self::Never => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_seconds_or_units_largest_first() {
        for (text, seconds) in
            [("0", 0), ("45", 45), (" 90m ", 5_400), ("2h30m", 9_000), ("1w1d1h1m1s", 694_861), ("86400s", 86_400)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in
            ["", " ", "m", "-1", "+1", "1.5h", "30m2h", "1h30", "1h1h", "1x", "99999999999999999999", "11000000w", "٣s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_idle_timeout_is_a_span_of_at_least_a_second_or_never() {
        assert_eq!(Timeout::parse("never").unwrap(), Timeout::Never);
        assert_eq!(Timeout::parse("90m").unwrap().seconds(), Some(5_400));
        assert!(Timeout::parse("0").is_err());
        assert!(Timeout::parse("forever").unwrap_err().message().contains("never"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_duration(&text);
            let _ = Timeout::parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..315_360_000) {
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(span)).unwrap(), span);
        }
    }
}
