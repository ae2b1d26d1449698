//! Where a connection to a container's port goes.

use crate::model::{Status, StoppedBy, Wake};

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the container, as the engine publishes it: nothing of ours is on the way.
    Through,
    /// To the door, which wakes it.
    Door,
    /// Not to the door: while the container is down its port is closed.
    Closed,
}

/// What decides it.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper {
    /// What the container is doing.
    pub status: Status,
    /// Who ordered it to stop, if that is not done yet.
    pub ordered: Option<StoppedBy>,
    /// Who or what brought it down; `None` also if that is not known.
    pub stopped: Option<StoppedBy>,
    /// For what it wakes.
    pub wake: Wake,
    /// Whether it is being woken, and does not accept connections yet.
    pub waking: bool,
    /// Whether it is being removed.
    pub removing: bool,
}

/// Where a connection to one of its ports goes now.
pub fn way(sleeper: &Sleeper) -> Way {
    let Sleeper { status, ordered, stopped, wake, waking, removing } = *sleeper;
    match status {
        _ if removing => Way::Closed,
        Status::Missing => Way::Closed,
        Status::Running | Status::Frozen if waking => Way::Door,
        Status::Running | Status::Frozen => Way::Through,
        // Sent to the door before it goes down: whoever comes meanwhile waits there, and wakes it again.
        Status::Stopping if ordered.is_some_and(StoppedBy::is_policy) && wake != Wake::Never => Way::Door,
        // The engine closes its ports when it is done.
        Status::Stopping => Way::Through,
        Status::Stopped if wakes(stopped, wake) => Way::Door,
        Status::Stopped => Way::Closed,
    }
}

/// Whether a container that came down so wakes for a connection.
fn wakes(stopped: Option<StoppedBy>, wake: Wake) -> bool {
    match (wake, stopped) {
        (Wake::Never, _) | (_, Some(StoppedBy::User)) => false,
        (Wake::Idle, Some(StoppedBy::Own)) => false,
        // Nobody is known to have wanted it down.
        (_, Some(StoppedBy::Idle | StoppedBy::Age | StoppedBy::Host | StoppedBy::Own) | None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASLEEP: Sleeper = Sleeper {
        status: Status::Stopped,
        ordered: None,
        stopped: Some(StoppedBy::Idle),
        wake: Wake::Always,
        waking: false,
        removing: false,
    };

    #[test]
    fn how_it_came_down_decides_whether_it_wakes() {
        use StoppedBy::{Host, Idle, Own, User};
        for (stopped, always, idle) in [
            (Some(Idle), Way::Door, Way::Door),
            (Some(Host), Way::Door, Way::Door),
            (Some(Own), Way::Door, Way::Closed),
            (None, Way::Door, Way::Door),
            (Some(User), Way::Closed, Way::Closed),
        ] {
            for (wake, expected) in [(Wake::Always, always), (Wake::Idle, idle), (Wake::Never, Way::Closed)] {
                assert_eq!(way(&Sleeper { stopped, wake, ..ASLEEP }), expected, "{stopped:?} {wake:?}");
            }
        }
    }

    #[test]
    fn what_runs_is_left_alone() {
        for status in [Status::Running, Status::Frozen] {
            let up = Sleeper { status, stopped: None, ..ASLEEP };
            assert_eq!(way(&up), Way::Through);
            assert_eq!(way(&Sleeper { waking: true, ..up }), Way::Door);
        }
    }

    #[test]
    fn an_idle_stop_leads_to_the_door_before_it_is_done() {
        let stopping = Sleeper { status: Status::Stopping, ordered: Some(StoppedBy::Idle), stopped: None, ..ASLEEP };
        assert_eq!(way(&stopping), Way::Door);
        assert_eq!(way(&Sleeper { wake: Wake::Never, ..stopping }), Way::Through);
        assert_eq!(way(&Sleeper { ordered: Some(StoppedBy::User), ..stopping }), Way::Through);
    }

    #[test]
    fn what_goes_or_is_gone_is_closed() {
        assert_eq!(way(&Sleeper { status: Status::Missing, ..ASLEEP }), Way::Closed);
        for status in Status::ALL {
            assert_eq!(way(&Sleeper { status, removing: true, ..ASLEEP }), Way::Closed);
        }
    }
}
