//! The clock: the only place that reads the time. The test clock stands still until it is told to move.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use crate::model::{Moment, Stamp};

/// Tells the time on both scales.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Stamp;
}

/// Measures how long something takes, on the machine's clock: for what is told of the work, never for what is decided.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic scale begins now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Stamp {
        Stamp { moment: Moment::START + self.start.elapsed(), at: OffsetDateTime::now_utc() }
    }
}

/// A clock for tests: both scales move only when told to, the wall clock also alone.
#[derive(Debug)]
pub struct TestClock(Mutex<Stamp>);

impl TestClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn new(at: OffsetDateTime) -> Self {
        Self(Mutex::new(Stamp { moment: Moment::START, at }))
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        let mut now = self.0.lock().unwrap_or_else(|e| e.into_inner());
        *now = Stamp { moment: now.moment + span, at: now.at + span };
    }

    /// Sets the wall clock, as an administrator or a time server would.
    pub fn jump_to(&self, at: OffsetDateTime) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).at = at;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Stamp {
        *self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
