//! Signs of use, as they are kept for a container.

use time::OffsetDateTime;

/// A container's own report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckIn {
    /// When it came.
    pub at: OffsetDateTime,
    /// How many connections it reported.
    pub connections: u64,
}

/// What is remembered of a container's use. Merging is commutative, associative and idempotent, so that several
/// servers may write in any order and often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The last sign of use: a start, an explicit request, a check-in with connections.
    pub last_active_at: OffsetDateTime,
    /// The last report, whatever it said.
    pub check_in: Option<CheckIn>,
}

impl Activity {
    /// What is known when both are known: the later of each.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            last_active_at: self.last_active_at.max(other.last_active_at),
            // Of two reports at the same time the one that speaks for use wins.
            check_in: self.check_in.into_iter().chain(other.check_in).max_by_key(|c| (c.at, c.connections)),
        }
    }
}
