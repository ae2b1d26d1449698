//! The labels that name a container's facts of birth. They never change; what may change is in the store and wins.

/// Says that Spindown made it, and which instance.
pub const MANAGED: &str = "spindown.managed";
/// Spindown's id.
pub const ID: &str = "spindown.id";
/// Whom it was made for.
pub const OWNER: &str = "spindown.owner";
/// The idle timeout it was made with: seconds or `never`.
pub const IDLE_TIMEOUT: &str = "spindown.idle_timeout";
/// Prefix of what else was set of its ladder: the name of a rung follows.
pub const RUNG_PREFIX: &str = "spindown.rung.";
/// For what it was to wake: `always`, `idle` or `never`.
pub const WAKE: &str = "spindown.wake_policy";
/// Of one that a reset made: the engine's id of the one whose place it takes …
pub const REPLACES: &str = "spindown.replaces";
/// … the name that it gets when that is free …
pub const NAME: &str = "spindown.name";
/// … and when the first of them was made, as RFC 3339 has it.
pub const CREATED_AT: &str = "spindown.created_at";
/// Prefix of the labels its users gave it at creation.
pub const LABEL_PREFIX: &str = "spindown.label.";

/// Whether a label is one of these.
pub fn is_fact(label: &str) -> bool {
    [MANAGED, ID, OWNER, IDLE_TIMEOUT, WAKE, REPLACES, NAME, CREATED_AT].contains(&label)
        || [LABEL_PREFIX, RUNG_PREFIX].iter().any(|prefix| label.starts_with(prefix))
}
