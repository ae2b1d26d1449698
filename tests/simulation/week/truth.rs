//! The truth about every container, kept beside the service, and what must hold of it. It is told what people, containers
//! and fate do, and what the simulated engine has; of the service only whether it took a report or a request.

use std::{net::SocketAddr, time::Duration};

use spindown::model::{ContainerId, EngineId};

use super::user::Habit;
use crate::support::world::SWEEP;

/// One container and its user.
pub struct Guest {
    pub id: ContainerId,
    pub engine_id: EngineId,
    pub address: std::net::IpAddr,
    pub timeout: Option<Duration>,
    pub habit: Habit,
    pub up: bool,
    /// How many connections there are.
    pub connections: u64,
    pub connected_at: Duration,
    /// Which visit this is.
    pub visit: u32,
    /// When it last was in use and said so, so that the service heard it or would have heard it had it not been away.
    pub last_use: Duration,
    /// When the service has heard at the latest that it was started behind its back: a start is taken to be as late as that.
    pub start_heard_by: Duration,
    /// Whether its last report was lost on its way.
    pub unheard: bool,
    /// Until when its reports are lost.
    pub silent_until: Duration,
    /// Whether a person has told it to stop.
    pub ordered: bool,
    /// What there is beside that to one that is looked into and has the whole ladder.
    pub probe: Option<Probe>,
}

/// One that is looked into: what it reports counts only while it cannot be.
pub struct Probe {
    pub freeze: Duration,
    pub aged: bool,
    /// Since when it is frozen.
    pub frozen: Option<Duration>,
    /// Since when somebody waits for it to go on.
    pub waits: Option<Duration>,
    /// When its user last sent something, and until when he sends nothing.
    pub moved: Duration,
    pub still_until: Duration,
    /// From when to when processors work for it.
    pub works: Option<(Duration, Duration)>,
    /// When it last reported connections, and was heard.
    pub reported: Duration,
    /// The last use that has surely been seen: whatever the eyes see later.
    pub seen: Duration,
    /// The last thing that may have been taken for use.
    pub latest: Duration,
}

impl Probe {
    /// Something may be taken for use at that time, and what may be so later stays that.
    pub fn may_show(&mut self, at: Duration) {
        self.latest = self.latest.max(at);
    }
}

/// Since when the service can have missed nothing.
#[derive(Clone, Copy, Default)]
pub struct Sight {
    /// At least since then it knows that it might have: the earliest that its idle clocks start from.
    pub surely_blind: Duration,
    /// It may have noticed as late as this: the latest that they start from.
    pub maybe_blind: Duration,
    /// Whether everything works right now.
    pub clear: bool,
    /// When the eyes last were not true, or late.
    pub eyes_off: Duration,
    /// Since when they have done nothing but fail.
    pub dark: Option<Duration>,
}

/// What an idle stop meant to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Nobody was there.
    Nobody,
    /// Somebody was, whose container had not reported since he came: less than a minute.
    Newcomer,
    /// Somebody was, whose container's reports had all been lost for the whole of the timeout.
    Unheard,
    /// Somebody was, who had sent nothing that could be seen for the whole of the timeout.
    Still,
}

/// The port of a container to which users connect.
pub const PORT: u16 = 8080;

impl Guest {
    /// From where its user has connected: from somewhere else each time.
    pub fn client(&self) -> SocketAddr {
        let [_, _, high, low] = self.visit.to_be_bytes();
        SocketAddr::from(([198, 18, high, low], 40_000))
    }

    /// Judges an idle stop. It is false unless the timeout has passed since the last use that was or could have been heard,
    /// and since the service last may have missed any.
    pub fn judge_stop(&self, sight: Sight, now: Duration) -> Result<Met, String> {
        let Some(timeout) = self.timeout else { return Err("what is never to be stopped was stopped".into()) };
        if !sight.clear {
            return Err("stopped while the service was blind".into());
        }
        let quiet = now.saturating_sub(self.surely(sight, now));
        if quiet < timeout {
            return Err(format!(
                "a false stop: {quiet:?} after its last use at {:?} or since {:?}, with a timeout of {timeout:?}",
                self.last_use, sight.surely_blind
            ));
        }
        match self.connections {
            0 => Ok(Met::Nobody),
            _ if self.probe.is_some() => Ok(Met::Still),
            _ if self.unheard => Ok(Met::Unheard),
            _ if now.saturating_sub(self.connected_at) <= SWEEP => Ok(Met::Newcomer),
            _ => Err(format!("somebody was cut off who had been there since {:?}", self.connected_at)),
        }
    }

    /// The last use that the service knows of for sure, or since when it may not know of any.
    pub fn surely(&self, sight: Sight, now: Duration) -> Duration {
        let known = self.last_use.max(sight.surely_blind);
        let Some(probe) = &self.probe else { return known };
        let long = |since: Duration, sweeps| now.saturating_sub(since) > sweeps * SWEEP;
        let mut known = known.max(probe.seen);
        if long(sight.eyes_off, 1) && self.connections > 0 && long(self.connected_at, 1) {
            known = known.max(probe.moved);
        }
        if let Some((from, until)) = probe.works
            && until > now
            && probe.frozen.is_none()
            && long(from.max(sight.eyes_off).max(sight.maybe_blind), 3)
        {
            known = now;
        }
        if sight.dark.is_some_and(|since| long(since, 1)) {
            known = known.max(probe.reported);
        }
        known
    }

    /// Takes in what has surely been seen by now.
    pub fn learn(&mut self, sight: Sight, now: Duration) {
        let (there, since) = (self.connections > 0, self.connected_at.max(sight.eyes_off).max(sight.maybe_blind));
        let Some(probe) = &mut self.probe else { return };
        if there && now.saturating_sub(since) > 2 * SWEEP && now.saturating_sub(probe.moved) > SWEEP {
            probe.seen = probe.seen.max(probe.moved);
        }
    }

    /// How much later than its due a container is stopped, or would be if that were now; `None` before it is due.
    pub fn overdue(&self, sight: Sight, now: Duration) -> Option<Duration> {
        let eyes = self.probe.as_ref().map_or(Duration::ZERO, |probe| probe.latest.max(sight.eyes_off + 3 * SWEEP));
        now.checked_sub(self.last_use.max(self.start_heard_by).max(sight.maybe_blind).max(eyes) + self.timeout?)
    }

    /// Whether it should have been stopped by now: one sweep may go by after it was due, and not two.
    pub fn is_missed(&self, sight: Sight, now: Duration) -> bool {
        self.up && !self.ordered && self.overdue(sight, now).is_some_and(|late| late >= SWEEP)
    }
}
