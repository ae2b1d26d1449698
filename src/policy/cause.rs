//! Who brought a container down that Spindown had not ordered to stop.

use std::time::Duration;

use time::OffsetDateTime;

use crate::model::StoppedBy;

/// An engine that goes down first ends its containers: for up to 15 s by default, and somewhat longer under load.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// Exit codes of a process ended by SIGINT, SIGKILL and SIGTERM.
const SIGNAL_EXITS: [i64; 3] = [130, 137, 143];

/// A time in which the engine was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it was last heard.
    pub lost_at: OffsetDateTime,
    /// When it was heard again.
    pub back_at: OffsetDateTime,
    /// Whether it had been started anew in between; otherwise only the connection was lost.
    pub restarted: bool,
}

impl Outage {
    /// Whether what ended at `at` went down with the engine.
    pub fn took(&self, at: OffsetDateTime) -> bool {
        self.restarted && at >= self.lost_at - SHUTDOWN && at <= self.back_at
    }
}

/// What is known of an end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// When it ended.
    pub at: OffsetDateTime,
    /// How.
    pub exit_code: Option<i64>,
    /// Whether somebody had signalled it, or told it to stop, just before; `None` if nobody was watching.
    pub signalled: Option<bool>,
    /// When the engine's present run began.
    pub engine_started_at: Option<OffsetDateTime>,
    /// The last time the engine was away.
    pub outage: Option<Outage>,
}

/// Infers who it was. When in doubt between the host and a person it was the host: such a container may be woken by
/// whoever needs it.
pub fn infer(ending: &Ending) -> StoppedBy {
    let before_this_engine = ending.engine_started_at.is_some_and(|started| ending.at <= started);
    if before_this_engine || ending.outage.is_some_and(|o| o.took(ending.at)) {
        return StoppedBy::Host;
    }
    let by_signal = || ending.exit_code.is_some_and(|code| SIGNAL_EXITS.contains(&code));
    if ending.signalled.unwrap_or_else(by_signal) { StoppedBy::User } else { StoppedBy::Own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
    }

    #[test]
    fn the_table_of_causes() {
        let outage = |lost, back, restarted| Some(Outage { lost_at: at(lost), back_at: at(back), restarted });
        let cases = [
            ("docker stop", 100, 143, Some(true), 0, None, StoppedBy::User),
            ("exit by itself", 100, 0, Some(false), 0, None, StoppedBy::Own),
            ("a crash with a signal's code", 100, 137, Some(false), 0, None, StoppedBy::Own),
            ("unwatched, ended by a signal", 100, 143, None, 0, None, StoppedBy::User),
            ("unwatched, ended by itself", 100, 1, None, 0, None, StoppedBy::Own),
            ("ended before this engine began", 100, 143, None, 200, None, StoppedBy::Host),
            ("the engine's own stop, seen", 100, 143, Some(true), 200, outage(101, 205, true), StoppedBy::Host),
            ("killed by the engine as it came back", 204, 137, None, 203, outage(101, 205, true), StoppedBy::Host),
            ("only the connection was lost", 103, 143, Some(true), 0, outage(101, 105, false), StoppedBy::User),
            ("long before the outage", 50, 143, Some(true), 0, outage(101, 105, true), StoppedBy::User),
            ("after the outage", 110, 0, Some(false), 102, outage(101, 105, true), StoppedBy::Own),
        ];
        for (what, ended, exit_code, signalled, engine, outage, expected) in cases {
            let ending = Ending {
                at: at(ended),
                exit_code: Some(exit_code),
                signalled,
                engine_started_at: Some(at(engine)),
                outage,
            };
            assert_eq!(infer(&ending), expected, "{what}");
        }
    }
}
