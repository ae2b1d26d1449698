//! One error for the whole crate: a kind, a message for the caller, a private source for the log.
//! Adapters translate into it at their border; each HTTP surface renders it in its own way.

use std::time::Duration;

/// Whatever can go wrong, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong: mend it and ask again.
    Invalid,
    /// No or wrong credentials.
    Unauthorized,
    /// The caller may not do this, or not from there.
    Forbidden,
    /// The thing named is not there.
    NotFound,
    /// The present state forbids it: a name in use, an illegal transition, a taken port.
    Conflict,
    /// The request is well formed but names something unusable, such as an image that exposes no port.
    Unsuitable,
    /// Too many requests from one source.
    TooMany,
    /// No port, address, memory or disk is left.
    Exhausted,
    /// The engine or the store does not answer: try again later.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unsuitable => "unsuitable",
            Self::TooMany => "too_many",
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// An error with its public message and its private source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that tells the caller `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retry_after = (kind == Kind::Unavailable).then_some(Duration::from_secs(5));
        Self { kind, message: message.into(), retry_after, source: None }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The thing named is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The present state forbids it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Engine or store does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Keeps what caused it, for the log only.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the caller may read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long the caller should wait before trying again, where that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
