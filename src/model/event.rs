//! Events: what happened, and how it follows from what a container showed before and after.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use time::OffsetDateTime;

use super::{ContainerId, Name, Status, StoppedBy};

/// Something that happened, numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number: higher than that of any before it, also over a restart of the server.
    pub id: u64,
    /// When it was noticed.
    pub at: OffsetDateTime,
    /// The container it is about; `None` if it is about the host.
    pub container: Option<(ContainerId, Name)>,
    /// What happened.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A container was made, or came to light.
    Created,
    /// It came up.
    Started,
    /// A connection woke it, and has come through to it.
    Woken {
        /// Who connected.
        client: IpAddr,
        /// How long that client waited.
        took: Duration,
    },
    /// A connection would have woken it, and came to nothing.
    WakeRefused {
        /// Who connected.
        client: IpAddr,
        /// Why it came to nothing.
        reason: Cow<'static, str>,
    },
    /// It was told to stop.
    Stopping(StoppedBy),
    /// The order to stop was taken back: it was in use after all, or somebody started it.
    Kept,
    /// It is down.
    Stopped {
        /// Who or what brought it down.
        by: Option<StoppedBy>,
        /// How its main process ended.
        exit_code: Option<i64>,
    },
    /// It is stopped soon, and whoever is logged in to it was told.
    Warned {
        /// When.
        stops_at: OffsetDateTime,
    },
    /// Its processes were halted.
    Frozen,
    /// They go on.
    Thawed,
    /// The engine has it no more, and nobody here removed it.
    Missing,
    /// It was deleted.
    Removed,
    /// It runs and has stopped reporting.
    CheckInLost,
    /// It reports again.
    CheckInBack,
    /// The engine does not answer.
    HostDown,
    /// It answers again.
    HostUp,
    /// The store does not answer.
    StoreDown,
    /// It answers again.
    StoreUp,
    /// Firewall rules were gone and have been put back.
    RulesRestored,
}

impl What {
    /// One of each kind.
    pub const ALL: [Self; 19] = [
        Self::Created,
        Self::Started,
        Self::Woken { client: IpAddr::V4(Ipv4Addr::LOCALHOST), took: Duration::ZERO },
        Self::WakeRefused { client: IpAddr::V4(Ipv4Addr::LOCALHOST), reason: Cow::Borrowed("") },
        Self::Stopping(StoppedBy::Idle),
        Self::Kept,
        Self::Stopped { by: None, exit_code: None },
        Self::Warned { stops_at: OffsetDateTime::UNIX_EPOCH },
        Self::Frozen,
        Self::Thawed,
        Self::Missing,
        Self::Removed,
        Self::CheckInLost,
        Self::CheckInBack,
        Self::HostDown,
        Self::HostUp,
        Self::StoreDown,
        Self::StoreUp,
        Self::RulesRestored,
    ];

    /// The word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Woken { .. } => "woken",
            Self::WakeRefused { .. } => "wake_refused",
            Self::Stopping(_) => "stopping",
            Self::Kept => "kept",
            Self::Stopped { .. } => "stopped",
            Self::Warned { .. } => "warned",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::Missing => "missing",
            Self::Removed => "removed",
            Self::CheckInLost => "check_in_lost",
            Self::CheckInBack => "check_in_back",
            Self::HostDown => "host_down",
            Self::HostUp => "host_up",
            Self::StoreDown => "store_down",
            Self::StoreUp => "store_up",
            Self::RulesRestored => "rules_restored",
        }
    }
}

/// What a container shows at one moment, as far as its events follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is doing.
    pub status: Status,
    /// When its run began; `None` while it is down.
    pub run: Option<OffsetDateTime>,
    /// Who ordered it to stop, while that is under way.
    pub ordered: Option<StoppedBy>,
    /// Who or what brought it down.
    pub stopped: Option<StoppedBy>,
    /// How it ended.
    pub exit_code: Option<i64>,
}

impl Shown {
    fn is_up(&self) -> bool {
        !matches!(self.status, Status::Stopped | Status::Missing)
    }
}

/// What happened between the two.
pub fn changes(before: &Shown, after: &Shown) -> Option<What> {
    use Status::{Frozen, Missing, Running, Stopped};
    let came_up = after.is_up() && (!before.is_up() || before.run != after.run);
    match (before.status, after.status) {
        (Missing, Missing) | (Stopped, Stopped) => None,
        (_, Missing) => Some(What::Missing),
        (_, Stopped) => Some(What::Stopped { by: after.stopped, exit_code: after.exit_code }),
        _ if came_up => Some(What::Started),
        _ if before.ordered.is_none() && after.ordered.is_some() => after.ordered.map(What::Stopping),
        _ if before.ordered.is_some() && after.ordered.is_none() => Some(What::Kept),
        (Running, Frozen) => Some(What::Frozen),
        (Frozen, Running) => Some(What::Thawed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_follow_from_what_is_shown() {
        let at = |seconds: i64| Some(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds));
        let nothing = Shown { status: Status::Missing, run: None, ordered: None, stopped: None, exit_code: None };
        let up = Shown { status: Status::Running, run: at(1), ..nothing };
        let again = Shown { run: at(2), ..up };
        let frozen = Shown { status: Status::Frozen, ..up };
        let stopping = Shown { status: Status::Stopping, ordered: Some(StoppedBy::Idle), ..up };
        let down = Shown { status: Status::Stopped, stopped: Some(StoppedBy::Idle), exit_code: Some(143), ..nothing };
        let told = What::Stopped { by: Some(StoppedBy::Idle), exit_code: Some(143) };
        for (before, after, expected) in [
            (nothing, up, Some(What::Started)),
            (nothing, down, Some(told.clone())),
            (nothing, nothing, None),
            (up, up, None),
            (up, again, Some(What::Started)),
            (up, frozen, Some(What::Frozen)),
            (frozen, up, Some(What::Thawed)),
            (up, stopping, Some(What::Stopping(StoppedBy::Idle))),
            (stopping, stopping, None),
            (stopping, up, Some(What::Kept)),
            (stopping, again, Some(What::Started)),
            (stopping, down, Some(told.clone())),
            (up, down, Some(told)),
            (down, down, None),
            (down, up, Some(What::Started)),
            (up, nothing, Some(What::Missing)),
            (down, nothing, Some(What::Missing)),
        ] {
            assert_eq!(changes(&before, &after), expected, "{before:?} -> {after:?}");
        }
    }
}
