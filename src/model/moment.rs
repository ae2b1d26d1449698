//! Moments: points on the monotonic scale of one run of the server, which no change of the wall clock moves.

use std::{ops, time::Duration};

use time::OffsetDateTime;

/// A point in monotonic time. May lie before the run began: what a record says happened earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(time::Duration);

impl Moment {
    /// When the run began.
    pub const START: Self = Self(time::Duration::ZERO);

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0 - earlier.0).unwrap_or_default()
    }

    /// The moment `span` earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0 - saturated(span))
    }
}

impl ops::Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(saturated(span)))
    }
}

fn saturated(span: Duration) -> time::Duration {
    time::Duration::try_from(span).unwrap_or(time::Duration::MAX)
}

/// When something happened, on both scales: the moment to decide by, the date to show and to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// For decisions.
    pub moment: Moment,
    /// For people and records.
    pub at: OffsetDateTime,
}

impl Stamp {
    /// Places a date from a record or from the engine on the scale of this run. What lies in the future counts as now:
    /// the clock was set back, and nobody may be cut off for it.
    pub fn recall(at: OffsetDateTime, now: Self) -> Self {
        let age = Duration::try_from(now.at - at).unwrap_or_default();
        Self { moment: now.moment.before(age), at }
    }

    /// The moment of a date to come; one that has passed is now.
    pub fn moment_of(self, date: OffsetDateTime) -> Moment {
        self.moment + Duration::try_from(date - self.at).unwrap_or_default()
    }

    /// The date at which `moment` was, or will be.
    pub fn date_of(self, moment: Moment) -> OffsetDateTime {
        self.at.saturating_add(moment.0 - self.moment.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_in_the_future_counts_as_now() {
        let now = Stamp { moment: Moment::START + Duration::from_secs(5), at: OffsetDateTime::UNIX_EPOCH };
        let later = Stamp::recall(now.at + Duration::from_secs(60), now);
        assert_eq!(later.moment, now.moment);
        let earlier = Stamp::recall(now.at - Duration::from_secs(60), now);
        assert_eq!(now.moment.since(earlier.moment), Duration::from_secs(60));
        assert_eq!(earlier.moment.since(now.moment), Duration::ZERO);
        assert_eq!(now.date_of(earlier.moment), earlier.at);
    }
}
