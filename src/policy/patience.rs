//! How much patience there is with wakes that come to nothing: with a source of connections, as a scanner or a guesser of
//! passwords is one, and with a container that does not stay up.

use std::time::Duration;

use super::retry;
use crate::model::Moment;

/// A connection that woke a container and ended sooner came to nothing.
const FRUITLESS: Duration = Duration::from_secs(10);
/// So many in a row of one container are anybody's bad luck: a wrong key, a wrong port.
pub const FREE_OF_ONE: u32 = 3;
/// So many of any: a class behind one address comes to as many containers.
pub const FREE_OF_ALL: u32 = 30;
/// The first wait after that …
const FIRST: Duration = Duration::from_secs(10);
/// … and the longest.
const LONGEST: Duration = Duration::from_secs(900);
/// After so long without a wake a source is as good as new: whoever asks a web server something now and then also comes
/// for a moment each time, and must never be taken for one who hammers.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// A container that ends by itself sooner than this after it came up has not come up.
const BRIEF: Duration = Duration::from_secs(60);

/// What is remembered of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// How many of its wakes came to nothing, in a row.
    fruitless: u32,
    /// When the last one ended.
    last: Moment,
}

impl Past {
    /// What is remembered once a connection that woke a container has ended, after `lasted`.
    pub fn after(before: Option<Self>, lasted: Duration, now: Moment) -> Self {
        let fruitless = match before {
            _ if lasted >= FRUITLESS => 0,
            Some(past) if !past.is_forgotten(now) => past.fruitless.saturating_add(1),
            _ => 1,
        };
        Self { fruitless, last: now }
    }

    /// From when on the source may wake a container again, if so many that come to nothing are free.
    pub fn waits_until(&self, free: u32) -> Moment {
        match self.fruitless.checked_sub(free) {
            None => self.last,
            Some(doublings) => self.last + (FIRST * 2_u32.pow(doublings.min(16))).min(LONGEST),
        }
    }

    /// Whether nothing of this matters any more.
    pub fn is_forgotten(&self, now: Moment) -> bool {
        self.fruitless == 0 || now.since(self.last) > FORGOTTEN
    }
}

/// How a container did when it was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How often in a row.
    in_a_row: u32,
    /// When it was woken last.
    last: Moment,
    /// Whether that came to nothing.
    failed: bool,
}

impl Tries {
    /// What is remembered of one that is woken now, until it [has come up](Self::came_up); it `fell` if its last run was over
    /// sooner than it was worth.
    pub fn next(before: Option<Self>, fell: bool, now: Moment) -> Self {
        let in_a_row = match before {
            Some(tries) if fell || tries.failed => tries.in_a_row.saturating_add(1),
            _ => 1,
        };
        Self { in_a_row, last: now, failed: true }
    }

    /// The same, once it has come up.
    #[must_use]
    pub fn came_up(self) -> Self {
        Self { failed: false, ..self }
    }

    /// From when on it may be woken again: at once, unless it fell or could not be started.
    pub fn waits_until(&self, fell: bool) -> Moment {
        if fell || self.failed { self.last + retry::pause(self.in_a_row) } else { self.last }
    }
}

/// Whether a container that ended by itself after a run of this length fell, rather than did what it was there for.
pub fn fell(ran: Duration) -> bool {
    ran < BRIEF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn waits_grow_with_each_that_comes_to_nothing() {
        let (mut past, mut now) = (None, at(100));
        let mut waits = Vec::new();
        for _ in 0..14 {
            let next = Past::after(past, Duration::from_secs(1), now);
            waits.push(next.waits_until(3).since(now).as_secs());
            (past, now) = (Some(next), next.waits_until(3));
        }
        assert_eq!(waits, [0, 0, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900, 900][..]);
    }

    #[test]
    fn one_that_lasts_makes_up_for_all() {
        let mut past = None;
        for _ in 0..20 {
            past = Some(Past::after(past, Duration::from_secs(9), at(100)));
        }
        assert!(past.unwrap().waits_until(3) > at(100));
        let past = Past::after(past, Duration::from_secs(10), at(100));
        assert_eq!(past.waits_until(3), at(100));
        assert!(past.is_forgotten(at(100)));
    }

    #[test]
    fn the_past_is_forgotten_after_an_hour() {
        let mut past = Past::after(None, Duration::ZERO, at(0));
        for _ in 0..9 {
            past = Past::after(Some(past), Duration::ZERO, at(0));
        }
        assert!(!past.is_forgotten(at(3_600)));
        assert!(past.is_forgotten(at(3_601)));
        assert_eq!(Past::after(Some(past), Duration::ZERO, at(3_601)).waits_until(3), at(3_601));
    }

    #[test]
    fn a_container_that_does_not_stay_up_is_woken_ever_more_seldom() {
        let (mut tries, mut now, mut waits) = (None, at(100), Vec::new());
        for _ in 0..8 {
            let next = Tries::next(tries, true, now);
            waits.push(next.waits_until(true).since(now).as_secs());
            (tries, now) = (Some(next), next.waits_until(true));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60][..]);
        // One run that was worth it, and all is well.
        let tries = Tries::next(tries.map(Tries::came_up), false, now);
        assert_eq!(tries.waits_until(false).since(now).as_secs(), 1);
        assert_eq!(tries.came_up().waits_until(false), now);
        assert!(fell(Duration::from_secs(59)) && !fell(Duration::from_secs(60)));
    }
}
