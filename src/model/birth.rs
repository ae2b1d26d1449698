//! The labels that name a container's facts of birth. They never change; what may change is in the store and wins.

/// Says that Spindown made it, and which instance.
pub const MANAGED: &str = "spindown.managed";
/// Spindown's id.
pub const ID: &str = "spindown.id";
/// Whom it was made for.
pub const OWNER: &str = "spindown.owner";
/// The idle timeout it was made with: seconds or `never`.
pub const IDLE_TIMEOUT: &str = "spindown.idle_timeout";
/// Prefix of the labels its users gave it at creation.
pub const LABEL_PREFIX: &str = "spindown.label.";
