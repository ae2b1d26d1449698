//! A container's name, as the engine allows them.

use std::fmt;

use super::{Error, Result, id::looks_like_id};

/// The longest name taken; a host name's limit, so that a name can become one.
const LONGEST: usize = 63;

/// A container's name, without the leading slash that the engine shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Reads a name that a caller gives, with or without its leading slash.
    ///
    /// # Errors
    /// `Invalid` for a name the engine would refuse, or one that reads like an id.
    pub fn parse(text: &str) -> Result<Self> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !first || !rest || !(2..=LONGEST).contains(&name.len()) {
            return Err(Error::invalid(format!(
                "name: {text:?} cannot be a name: use 2 to {LONGEST} letters, digits, '_', '.' and '-', a letter or digit first"
            )));
        }
        if looks_like_id(name) {
            return Err(Error::invalid(format!(
                "name: {text:?} could be taken for an id: use fewer than 12 hex digits, or another letter"
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// Takes the name that the engine reports, whatever it is.
    pub fn from_engine(text: &str) -> Self {
        Self(text.strip_prefix('/').unwrap_or(text).to_owned())
    }

    /// The name without its slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_engine_allows_and_no_ids() {
        for good in ["ab", "/hungry_bell", "a.b-c_9", "0123456789a", "abcdefabcdefg"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/", "//ab", "_ab", "a b", "é1", "0123456789ab", &"x".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Name::parse("/ab").unwrap().as_str(), "ab");
    }
}
