//! Events: the numbered log of what happened, kept in memory for a while, and reading along with it.
//!
//! The latest ones are kept, however many there are and whether anybody reads them or not. Who reads too slowly, or asks
//! for what was before the server began, is told that there is a gap.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{Spindown, Unpoisoned};
use crate::{
    meter,
    model::{ContainerId, Event, Name, Stamp, What},
};

/// How many events are kept: a class of a hundred that all come up and go down, many times over.
const KEPT: usize = 4_096;
/// How many are handed out at once.
const BATCH: usize = 256;

/// The latest events.
pub(super) struct EventLog {
    events: Mutex<VecDeque<Event>>,
    /// The number of the last one.
    last: watch::Sender<u64>,
    /// Whether it is known what there was: before, everything would look new.
    open: AtomicBool,
}

impl EventLog {
    /// An empty log. Numbers begin with the microseconds since 1970, so that they go on rising when the server is started
    /// again; they stay below 2^53, which JavaScript can count to.
    pub(super) fn new(now: Stamp) -> Self {
        let first = u64::try_from(now.at.unix_timestamp_nanos() / 1_000).unwrap_or_default();
        Self { events: Mutex::default(), last: watch::Sender::new(first), open: AtomicBool::new(false) }
    }

    /// From now on it is news when a container shows something else.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Notes what happened to a container, if it is known what there was before. Answers whether it is.
    pub(super) fn note_container(&self, now: Stamp, container: (ContainerId, Name), what: What) -> bool {
        let open = self.open.load(Ordering::Relaxed);
        if open {
            self.append(now, Some(container), what);
        }
        open
    }

    /// Notes what happened to the host.
    pub(super) fn note_host(&self, now: Stamp, what: What) {
        self.append(now, None, what);
    }

    fn append(&self, now: Stamp, container: Option<(ContainerId, Name)>, what: What) {
        metrics::counter!(meter::EVENTS, "event" => what.as_str()).increment(1);
        let mut events = self.events.locked();
        if events.len() == KEPT {
            events.pop_front();
        }
        self.last.send_modify(|last| {
            *last += 1;
            events.push_back(Event { id: *last, at: now.at, container, what });
        });
    }

    /// The oldest events behind `after`, and whether some between are not kept any more.
    fn read(&self, after: u64) -> (Vec<Event>, bool) {
        let events = self.events.locked();
        let next = events.partition_point(|event| event.id <= after);
        let missed = events.front().map_or(*self.last.borrow(), |first| first.id - 1) > after;
        (events.range(next..).take(BATCH).cloned().collect(), missed)
    }
}

/// What a reader gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// These, in order.
    Events(Vec<Event>),
    /// Some were missed: whoever keeps a picture of what there is must ask for it anew.
    Gap,
}

/// One who reads along.
pub struct Reader {
    after: u64,
    told_of_gap: bool,
    last: watch::Receiver<u64>,
}

impl Spindown {
    /// Reads events from behind the one so numbered on, or only what happens from now on.
    pub fn read_events(&self, after: Option<u64>) -> Reader {
        let last = self.events.last.subscribe();
        let latest = *last.borrow();
        // A number that is still to come would be waited for in silence.
        let after = after.map_or(latest, |after| after.min(latest));
        Reader { after, told_of_gap: false, last }
    }

    /// The number of the last event, as it changes: for whoever looks at how things are whenever something has happened.
    pub fn last_event(&self) -> watch::Receiver<u64> {
        self.events.last.subscribe()
    }

    /// What comes next, when there is something; `None` when the server ends.
    pub async fn next_events(&self, reader: &mut Reader) -> Option<Page> {
        loop {
            let (events, missed) = self.events.read(reader.after);
            if missed && !reader.told_of_gap {
                reader.told_of_gap = true;
                return Some(Page::Gap);
            }
            reader.told_of_gap = false;
            if let Some(last) = events.last() {
                reader.after = last.id;
                return Some(Page::Events(events));
            }
            if missed {
                reader.after = *self.events.last.borrow();
            }
            tokio::select! {
                changed = reader.last.changed() => changed.ok()?,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::model::Moment;

    fn log(count: usize) -> (EventLog, u64) {
        let now = Stamp { moment: Moment::START, at: datetime!(2026-03-04 12:00 UTC) };
        let log = EventLog::new(now);
        let first = *log.last.borrow();
        for _ in 0..count {
            log.note_host(now, What::HostUp);
        }
        (log, first)
    }

    #[test]
    fn events_are_numbered_without_holes_and_the_latest_are_kept() {
        let (log, first) = log(KEPT + 10);
        assert!(first < 1 << 53);
        let (events, missed) = log.read(first + 10);
        assert!(!missed);
        assert_eq!(events.first().map(|e| e.id), Some(first + 11));
        assert_eq!(events.len(), BATCH);
        let (events, missed) = log.read(first + 9);
        assert!(missed, "one was dropped");
        assert_eq!(events.first().map(|e| e.id), Some(first + 11));
        let (events, missed) = log.read(*log.last.borrow());
        assert!(events.is_empty() && !missed);
    }

    #[test]
    fn what_was_before_the_server_began_is_a_gap() {
        let (empty, first) = log(0);
        assert_eq!(empty.read(first), (Vec::new(), false));
        assert_eq!(empty.read(first - 1), (Vec::new(), true));
        let (one, first) = log(1);
        assert!(!one.read(first).1);
        assert!(one.read(first - 1).1);
    }

    #[test]
    fn containers_are_no_news_before_it_is_known_what_there_is() {
        let (log, first) = log(0);
        let now = Stamp { moment: Moment::START, at: datetime!(2026-03-04 12:00 UTC) };
        let subject = || (ContainerId::from_bits(1), Name::parse("ada").unwrap());
        log.note_container(now, subject(), What::Created);
        assert!(log.read(first).0.is_empty());
        log.open();
        log.note_container(now, subject(), What::Created);
        assert_eq!(log.read(first).0.len(), 1);
    }
}
