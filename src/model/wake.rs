//! Waking: for what a container that is down comes up again, and who of the two ends speaks first.

use std::collections::BTreeMap;

use super::{Error, Result};

/// When a container that is down wakes for a connection. One that a person has stopped never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wake {
    /// However else it came down.
    #[default]
    Always,
    /// Unless it ended by itself.
    Idle,
    /// Never.
    Never,
}

impl Wake {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Always, Self::Idle, Self::Never];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Idle => "idle",
            Self::Never => "never",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// `Invalid`, saying what is taken.
    pub fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|wake| wake.as_str() == text);
        found.ok_or_else(|| Error::invalid(format!("{text:?} is not always, idle or never")))
    }
}

/// What shows that somebody wants something of a container, and has not merely knocked at its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The client's first bytes: with SSH, HTTP and most protocols the client speaks without having been spoken to.
    Bytes,
    /// The connection itself: the server speaks first, so that the client would wait for ever.
    Connection,
}

impl Demand {
    /// The label with which an image says so: `spindown.wake=connect`.
    pub const LABEL: &str = "spindown.wake";

    /// What the labels of the image, which its containers have too, say.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(Self::LABEL).map(String::as_str) {
            Some("connect") => Self::Connection,
            _ => Self::Bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read_as_it_is_written() {
        for wake in Wake::ALL {
            assert_eq!(Wake::parse(wake.as_str()).unwrap(), wake);
        }
        assert!(Wake::parse("Always").unwrap_err().message().contains("always, idle or never"));
    }

    #[test]
    fn images_say_when_the_server_speaks_first() {
        let labels = |value: &str| BTreeMap::from([(Demand::LABEL.to_owned(), value.to_owned())]);
        assert_eq!(Demand::of(&labels("connect")), Demand::Connection);
        assert_eq!(Demand::of(&labels("other")), Demand::Bytes);
        assert_eq!(Demand::of(&BTreeMap::new()), Demand::Bytes);
    }
}
