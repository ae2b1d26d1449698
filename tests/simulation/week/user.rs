//! The users of the week: when they come, how long they stay, and what they do besides being connected.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};
use spindown::model::Timeout;

use crate::support::world::minutes;

const HOUR: u64 = 3_600;
/// The week begins on a Wednesday at noon.
const BEGIN: u64 = (2 * 24 + 12) * HOUR;
/// The most that [`rhythm`] answers.
const BUSIEST: f64 = 2.4;

/// What a user does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// Comes to work, and starts the container if it is down.
    Come,
    /// Goes home, if this is still the same visit.
    Leave(u32),
}

/// What one user is like.
pub struct Habit {
    /// Visits a day.
    visits: f64,
    /// How long a visit takes on the average, in seconds.
    stay: f64,
    /// How likely he stops the container himself when he leaves.
    pub tidy: f64,
}

impl Habit {
    pub fn any(rng: &mut StdRng) -> Self {
        Self {
            visits: rng.random_range(0.3..8.0),
            stay: rng.random_range(120.0..7_200.0),
            tidy: if rng.random_bool(0.1) { 0.5 } else { 0.01 },
        }
    }

    /// When he comes next.
    pub fn next_visit(&self, now: Duration, rng: &mut StdRng) -> Duration {
        let mut at = now;
        loop {
            at += exponential(86_400.0 / (self.visits * BUSIEST), rng);
            if rng.random_bool(rhythm(at) / BUSIEST) {
                return at;
            }
        }
    }

    /// How long he stays.
    pub fn stay(&self, rng: &mut StdRng) -> Duration {
        exponential(self.stay, rng)
    }
}

/// How busy this hour is, compared with a week without rhythm.
fn rhythm(at: Duration) -> f64 {
    let hours = (BEGIN + at.as_secs()) / HOUR;
    let busy = match hours % 24 {
        0..7 => 0.1,
        7..9 => 0.6,
        9..12 => BUSIEST,
        12..14 => 1.2,
        14..18 => 2.2,
        18..22 => 1.0,
        _ => 0.4,
    };
    let weekend = hours / 24 % 7 >= 5;
    if weekend { busy * 0.4 } else { busy }
}

/// A span of this many seconds on the average.
pub fn exponential(mean: f64, rng: &mut StdRng) -> Duration {
    let even: f64 = rng.random_range(f64::EPSILON..1.0);
    Duration::from_secs((-even.ln() * mean) as u64 + 1)
}

/// From minutes to hours; a few are never stopped.
pub fn any_timeout(rng: &mut StdRng) -> Timeout {
    match [5, 10, 15, 30, 60, 150, 240, 480, 0][rng.random_range(0..9)] {
        0 if rng.random_bool(0.3) => Timeout::Never,
        0 => Timeout::After(minutes(20)),
        number => Timeout::After(minutes(number)),
    }
}
