//! Whether watching was interrupted: a gap or a jump of the clock in which signs of use may have been missed.

use std::time::Duration;

use crate::model::{Moment, Stamp};

/// The wall clock may drift by this much against the monotonic one between two beats before it counts as a jump.
const DRIFT: Duration = Duration::from_secs(5);

/// Whether something may have been missed between two beats of the server, which are meant to be at most `gap` apart.
///
/// A long gap means that the process did not run (halted, starved, the machine asleep): check-ins may have been refused.
/// A jump of the wall clock means the same for a machine that slept, whose monotonic clock stood still.
pub fn interrupted(last: Stamp, now: Stamp, gap: Duration) -> bool {
    let passed = now.moment.since(last.moment);
    let shown = now.at - last.at;
    let drift = (shown - time::Duration::try_from(passed).unwrap_or(time::Duration::MAX)).unsigned_abs();
    passed > gap || drift > DRIFT
}

/// Containers report once a minute: so many reports may be lost before it is told.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Whether a container that was `heard` last then should have reported by now.
pub fn silent(heard: Moment, now: Moment) -> bool {
    now.since(heard) > SILENCE
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn gaps_and_jumps_interrupt_and_nothing_else() {
        let stamp = |moment: u64, at: i64| Stamp {
            moment: Moment::START + Duration::from_secs(moment),
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(at),
        };
        let gap = Duration::from_secs(10);
        for (what, now, expected) in [
            ("a beat", stamp(101, 1_001), false),
            ("a late beat", stamp(110, 1_010), false),
            ("a gap", stamp(111, 1_011), true),
            ("a small correction", stamp(101, 1_005), false),
            ("a jump ahead", stamp(101, 1_007), true),
            ("a jump back", stamp(101, 900), true),
            ("the machine slept", stamp(100, 9_000), true),
        ] {
            assert_eq!(interrupted(stamp(100, 1_000), now, gap), expected, "{what}");
        }
    }
}
