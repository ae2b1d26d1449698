//! The idle judge: keep or sleep, why, and until when.

use std::fmt;

use crate::model::{IdleTimeout, Moment, Status, format_duration};

/// What kind of sign of use was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sign {
    /// The container was started.
    Start,
    /// Somebody asked for it explicitly through the API.
    Request,
    /// It reported connections.
    Connections,
    /// Somebody has a connection to it through the door.
    Carried,
    /// It reported that there are none: a sign of life, not of use.
    CheckIn,
    /// What the store remembers of earlier use.
    Remembered,
}

impl Sign {
    /// Whether this is use, rather than mere life.
    pub fn is_activity(self) -> bool {
        self != Self::CheckIn
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Request => "request",
            Self::Connections => "connections",
            Self::Carried => "carried",
            Self::CheckIn => "check-in",
            Self::Remembered => "remembered",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "it was started",
            Self::Request => "somebody asked for it",
            Self::Connections => "it reported connections",
            Self::Carried => "somebody is connected to it through the door",
            Self::CheckIn => "it reported no connections",
            Self::Remembered => "it was in use, as the store remembers",
        })
    }
}

/// One sign and when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was seen.
    pub sign: Sign,
    /// When.
    pub at: Moment,
}

/// Why nothing is stopped at the moment, whatever the evidence: it may be incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The engine does not answer.
    EngineAway,
    /// The store does not answer.
    StoreAway,
}

/// All that the verdict depends on.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What the container is doing.
    pub status: Status,
    /// After how much idleness it is stopped.
    pub timeout: IdleTimeout,
    /// The signs seen.
    pub evidence: &'a [Evidence],
    /// Since when nothing that mattered can have been missed.
    pub watched_since: Moment,
    /// Whether stops are suspended.
    pub hold: Option<Hold>,
}

/// Keep or sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays up.
    Keep,
    /// It is to be stopped.
    Sleep,
}

/// The verdict's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not running, so there is nothing to stop.
    NotRunning(Status),
    /// Its timeout is `never`.
    Never,
    /// Stops are suspended.
    Held(Hold),
    /// The last sign of use is younger than the timeout.
    Used(Evidence),
    /// Watching was interrupted; since then less than the timeout has passed.
    Interrupted(Moment),
    /// Nothing for the timeout.
    Idle(Moment),
}

/// The judge's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Keep or sleep.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// When the timeout will have passed, if nothing more happens; `None` if it never will.
    pub due: Option<Moment>,
}

/// Decides whether a container stays up.
///
/// The clock runs from the last sign of use, or from when watching began anew if that is later: what may have been
/// missed in between is never read as idleness.
pub fn judge(case: &Case<'_>, now: Moment) -> Judgement {
    let keep = |reason, due| Judgement { verdict: Verdict::Keep, reason, due };
    if case.status != Status::Running {
        return keep(Reason::NotRunning(case.status), None);
    }
    let Some(timeout) = case.timeout.span() else { return keep(Reason::Never, None) };
    let last_use = case.evidence.iter().filter(|e| e.sign.is_activity()).max_by_key(|e| (e.at, e.sign));
    let (from, reason) = match last_use {
        Some(last) if last.at >= case.watched_since => (last.at, Reason::Used(*last)),
        _ => (case.watched_since, Reason::Interrupted(case.watched_since)),
    };
    let due = from + timeout;
    if let Some(hold) = case.hold {
        return keep(Reason::Held(hold), Some(due));
    }
    if now < due {
        return keep(reason, Some(due));
    }
    Judgement { verdict: Verdict::Sleep, reason: Reason::Idle(from), due: Some(due) }
}

impl Judgement {
    /// The reason in one sentence, as seen at `now`.
    pub fn explain(&self, timeout: IdleTimeout, now: Moment) -> String {
        let ago = |at: Moment| format!("{} ago", format_duration(now.since(at)));
        let limit = timeout.span().map_or_else(|| "never".to_owned(), format_duration);
        match self.reason {
            Reason::NotRunning(status) => format!("It is {}, so there is nothing to stop.", status.as_str()),
            Reason::Never => "It is never stopped for being idle.".to_owned(),
            Reason::Held(Hold::EngineAway) => {
                "Nothing is stopped while the engine does not answer: signs of use may be missed.".to_owned()
            }
            Reason::Held(Hold::StoreAway) => {
                "Nothing is stopped while the store does not answer: signs of use may be missed.".to_owned()
            }
            Reason::Used(last) => {
                format!("The last sign of use was {}: {}; the idle timeout is {limit}.", ago(last.at), last.sign)
            }
            Reason::Interrupted(since) => format!(
                "Watching began anew {} (a restart, an outage or a jump of the clock), so the idle timeout of {limit} \
                 runs from there.",
                ago(since)
            ),
            Reason::Idle(from) => {
                format!("The last sign of use was {}, longer than the idle timeout of {limit}.", ago(from))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn seen(sign: Sign, seconds: u64) -> Evidence {
        Evidence { sign, at: at(seconds) }
    }

    fn minute() -> IdleTimeout {
        IdleTimeout::After(Duration::from_secs(60))
    }

    #[test]
    fn the_table_of_verdicts() {
        use Sign::*;
        let running = Status::Running;
        type Row<'a> = (&'a str, Status, IdleTimeout, &'a [Evidence], u64, Option<Hold>, u64, Verdict, Option<u64>);
        let cases: &[Row<'_>] = &[
            ("just started", running, minute(), &[seen(Start, 0)], 0, None, 59, Verdict::Keep, Some(60)),
            ("no check-in ever", running, minute(), &[seen(Start, 0)], 0, None, 60, Verdict::Sleep, Some(60)),
            (
                "connected",
                running,
                minute(),
                &[seen(Start, 0), seen(Connections, 50)],
                0,
                None,
                109,
                Verdict::Keep,
                Some(110),
            ),
            (
                "gone",
                running,
                minute(),
                &[seen(Start, 0), seen(Connections, 50)],
                0,
                None,
                110,
                Verdict::Sleep,
                Some(110),
            ),
            (
                "alive is not in use",
                running,
                minute(),
                &[seen(Start, 0), seen(CheckIn, 59)],
                0,
                None,
                60,
                Verdict::Sleep,
                Some(60),
            ),
            (
                "a request is use",
                running,
                minute(),
                &[seen(Start, 0), seen(Request, 59)],
                0,
                None,
                60,
                Verdict::Keep,
                Some(119),
            ),
            ("fresh grace", running, minute(), &[seen(Start, 0)], 500, None, 559, Verdict::Keep, Some(560)),
            ("grace over", running, minute(), &[seen(Start, 0)], 500, None, 560, Verdict::Sleep, Some(560)),
            ("nothing known at all", running, minute(), &[], 10, None, 69, Verdict::Keep, Some(70)),
            ("never", running, IdleTimeout::Never, &[seen(Start, 0)], 0, None, 1_000_000, Verdict::Keep, None),
            (
                "engine away",
                running,
                minute(),
                &[seen(Start, 0)],
                0,
                Some(Hold::EngineAway),
                900,
                Verdict::Keep,
                Some(60),
            ),
            (
                "store away",
                running,
                minute(),
                &[seen(Start, 0)],
                0,
                Some(Hold::StoreAway),
                900,
                Verdict::Keep,
                Some(60),
            ),
            ("stopped", Status::Stopped, minute(), &[seen(Start, 0)], 0, None, 900, Verdict::Keep, None),
            ("frozen", Status::Frozen, minute(), &[seen(Start, 0)], 0, None, 900, Verdict::Keep, None),
            ("stopping", Status::Stopping, minute(), &[seen(Start, 0)], 0, None, 900, Verdict::Keep, None),
            ("missing", Status::Missing, minute(), &[], 0, None, 900, Verdict::Keep, None),
        ];
        for (what, status, timeout, evidence, watched, hold, now, verdict, due) in cases {
            let case = Case { status: *status, timeout: *timeout, evidence, watched_since: at(*watched), hold: *hold };
            let judgement = judge(&case, at(*now));
            assert_eq!(judgement.verdict, *verdict, "{what}");
            assert_eq!(judgement.due, due.map(at), "{what}");
            assert!(judgement.explain(*timeout, at(*now)).ends_with('.'), "{what}");
        }
    }

    fn any_evidence() -> impl Strategy<Value = Vec<Evidence>> {
        let signs = [Sign::Start, Sign::Request, Sign::Connections, Sign::CheckIn, Sign::Remembered];
        prop::collection::vec((prop::sample::select(signs.to_vec()), 0u64..1_000).prop_map(|(s, t)| seen(s, t)), 0..12)
    }

    proptest! {
        /// Nobody is stopped within the timeout of any activity, nor of an interruption, nor during a hold.
        #[test]
        fn no_stop_within_the_timeout(
            evidence in any_evidence(), watched in 0u64..1_000, timeout in 1u64..500, now in 0u64..2_000, held: bool,
        ) {
            let timeout = IdleTimeout::After(Duration::from_secs(timeout));
            let hold = held.then_some(Hold::StoreAway);
            let case = Case { status: Status::Running, timeout, evidence: &evidence, watched_since: at(watched), hold };
            let judgement = judge(&case, at(now));
            if judgement.verdict == Verdict::Sleep {
                let span = timeout.span().unwrap();
                prop_assert!(!held);
                prop_assert!(evidence.iter().filter(|e| e.sign.is_activity()).all(|e| e.at + span <= at(now)));
                prop_assert!(at(watched) + span <= at(now));
            }
        }

        /// Once the timeout is over it is stopped, and `due` tells exactly when.
        #[test]
        fn due_is_when_the_verdict_turns(evidence in any_evidence(), watched in 0u64..1_000, timeout in 1u64..500) {
            let timeout = IdleTimeout::After(Duration::from_secs(timeout));
            let case = Case { status: Status::Running, timeout, evidence: &evidence, watched_since: at(watched), hold: None };
            let due = judge(&case, at(0)).due.unwrap();
            prop_assert_eq!(judge(&case, due).verdict, Verdict::Sleep);
            prop_assert_eq!(judge(&case, due.before(Duration::from_millis(1))).verdict, Verdict::Keep);
        }

        /// More evidence, in any order, never brings the stop nearer.
        #[test]
        fn evidence_only_postpones(mut evidence in any_evidence(), extra in any_evidence(), watched in 0u64..1_000) {
            let due = |evidence: &[Evidence]| {
                judge(&Case { status: Status::Running, timeout: minute(), evidence, watched_since: at(watched), hold: None }, at(0)).due
            };
            let before = due(&evidence);
            evidence.extend(extra);
            prop_assert!(due(&evidence) >= before);
            evidence.reverse();
            prop_assert!(due(&evidence) >= before);
        }
    }
}
