//! A container's output: which part of it is asked for.

/// What to read of a container's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// How many of the last lines; `None` for all that are kept.
    pub tail: Option<u32>,
    /// Whether to go on with what comes, until the container ends.
    pub follow: bool,
    /// Whether each line begins with its date.
    pub timestamps: bool,
}
