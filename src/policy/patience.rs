//! How much patience there is with a source of connections whose wakes come to nothing: a scanner, a guesser of passwords.

use std::time::Duration;

use crate::model::Moment;

/// A connection that woke a container and ended sooner came to nothing.
const FRUITLESS: Duration = Duration::from_secs(10);
/// So many in a row are anybody's bad luck: a wrong key, a wrong port.
const FREE: u32 = 3;
/// The first wait after that …
const FIRST: Duration = Duration::from_secs(10);
/// … and the longest.
const LONGEST: Duration = Duration::from_secs(3_600);
/// After so long without a wake a source is as good as new.
const FORGOTTEN: Duration = Duration::from_secs(86_400);

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

    /// From when on the source may wake a container again.
    pub fn waits_until(&self) -> Moment {
        match self.fruitless.checked_sub(FREE) {
            None => self.last,
            Some(doublings) => self.last + (FIRST * 2_u32.pow(doublings.min(16))).min(LONGEST),
        }
    }

    /// Whether nothing of this matters any more.
    pub fn is_forgotten(&self, now: Moment) -> bool {
        self.fruitless == 0 || now.since(self.last) > FORGOTTEN
    }
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
            waits.push(next.waits_until().since(now).as_secs());
            (past, now) = (Some(next), next.waits_until());
        }
        assert_eq!(waits, [0, 0, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600][..]);
    }

    #[test]
    fn one_that_lasts_makes_up_for_all() {
        let mut past = None;
        for _ in 0..20 {
            past = Some(Past::after(past, Duration::from_secs(9), at(100)));
        }
        assert!(past.unwrap().waits_until() > at(100));
        let past = Past::after(past, Duration::from_secs(10), at(100));
        assert_eq!(past.waits_until(), at(100));
        assert!(past.is_forgotten(at(100)));
    }

    #[test]
    fn the_past_is_forgotten_after_a_day() {
        let mut past = Past::after(None, Duration::ZERO, at(0));
        for _ in 0..9 {
            past = Past::after(Some(past), Duration::ZERO, at(0));
        }
        assert!(!past.is_forgotten(at(86_400)));
        assert!(past.is_forgotten(at(86_401)));
        assert_eq!(Past::after(Some(past), Duration::ZERO, at(86_401)).waits_until(), at(86_401));
    }
}
