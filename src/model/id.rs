//! The ids: Spindown's own, the engine's, the host's name, and how a caller may name a container.

use std::{borrow::Borrow, fmt};

use super::{Error, Name, Result};

/// Hex digits in Spindown's own id of a container (128 random bits).
const CONTAINER_ID_DIGITS: usize = 32;
/// Hex digits in the engine's id of a container.
const ENGINE_ID_DIGITS: usize = 64;
/// The shortest prefix of an id that may stand for it.
const PREFIX_DIGITS: usize = 12;

/// Spindown's id of a container: 32 lower-case hex digits, its for life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// The id made of these 128 random bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// Reads an id back, from a label or a record.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() == CONTAINER_ID_DIGITS && is_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is not a container id: it has {CONTAINER_ID_DIGITS} hex digits")))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ordered and hashed like its digits, so that a map can be searched for a prefix.
impl Borrow<str> for ContainerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The engine's id of a container: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId(String);

impl EngineId {
    /// Reads an id that the engine gave, or a record kept.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() == ENGINE_ID_DIGITS && is_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is not an engine's id: it has {ENGINE_ID_DIGITS} hex digits")))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ordered and hashed like its digits, so that a map can be searched for a prefix.
impl Borrow<str> for EngineId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a host: a Docker Engine that Spindown drives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The engine on this machine.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// Reads a host's name from a record.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a caller names a container: by a whole id, a prefix of one, or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// At least 12 hex digits: the start of either id, or all of it.
    Digits(String),
    /// Anything else that a container can be called.
    Name(Name),
}

impl Reference {
    /// Reads what stands in the path of a request. What can be no id and no name is `None`: no container is called that.
    pub fn parse(text: &str) -> Option<Self> {
        if looks_like_id(text) { Some(Self::Digits(text.to_owned())) } else { Name::parse(text).ok().map(Self::Name) }
    }
}

/// Whether `text` would be read as an id, or the prefix of one.
pub(super) fn looks_like_id(text: &str) -> bool {
    (PREFIX_DIGITS..=ENGINE_ID_DIGITS).contains(&text.len()) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_an_id_from_twelve_hex_digits_on_and_a_name_otherwise() {
        for (text, expected) in [
            ("0123456789ab", Some(true)),
            ("0123456789a", Some(false)),
            ("hungry_bell", Some(false)),
            ("/hungry_bell", Some(false)),
            ("0123456789AB", Some(false)),
            ("", None),
            ("-x", None),
            ("a b", None),
        ] {
            let digits = Reference::parse(text).map(|r| matches!(r, Reference::Digits(_)));
            assert_eq!(digits, expected, "{text:?}");
        }
    }

    #[test]
    fn ids_are_read_back_as_written() {
        let id = ContainerId::from_bits(7);
        assert_eq!(ContainerId::parse(id.as_str()).unwrap(), id);
        assert!(ContainerId::parse("7").is_err());
        assert!(EngineId::parse(&"g".repeat(64)).is_err());
    }
}
