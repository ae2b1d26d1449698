//! What goes wrong in the week, and when.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use crate::support::eyes::Gaze;

/// Something that goes wrong, or is right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The server is killed …
    Crash,
    /// … and started again.
    Start,
    StoreAway {
        hangs: bool,
    },
    StoreBack,
    EngineAway {
        hangs: bool,
    },
    EngineBack {
        restarted: bool,
    },
    /// The wall clock is set by so many seconds.
    Jump(i64),
    /// The machine is halted: neither the server nor the containers run.
    Halt(Duration),
    /// The engine's events get lost …
    Deaf,
    /// … and heard again.
    Heard,
    /// What is seen in containers from now on …
    Eyes(Gaze),
    /// … and whether they are looked into at regular times.
    Looks(bool),
}

/// How many kinds there are that begin by themselves.
const KINDS: usize = 9;

/// All that goes wrong on so many days. Most days are quiet, some are terrible; on the second each kind is met.
pub fn agenda(days: u64, rng: &mut StdRng) -> Vec<(Duration, Fault)> {
    let mut agenda = Vec::new();
    for day in 0..days {
        let many = [0, 0, 1, 3, 10, 40][rng.random_range(0..6)];
        let kinds: Vec<usize> = match day {
            1 => (0..KINDS).collect(),
            _ => (0..many).map(|_| rng.random_range(0..KINDS)).collect(),
        };
        for kind in kinds {
            let at = Duration::from_secs(86_400 * day + rng.random_range(0..86_400));
            begin(kind, at, &mut agenda, rng);
        }
    }
    agenda.sort_unstable();
    agenda
}

fn begin(kind: usize, at: Duration, agenda: &mut Vec<(Duration, Fault)>, rng: &mut StdRng) {
    let back = at + short_or_long(rng);
    match kind {
        0 => agenda.extend([(at, Fault::Crash), (back, Fault::Start)]),
        // A restart that takes no time.
        1 => agenda.extend([(at, Fault::Crash), (at, Fault::Start)]),
        2 => agenda.extend([(at, Fault::StoreAway { hangs: rng.random() }), (back, Fault::StoreBack)]),
        3 => {
            let (hangs, restarted) = (rng.random(), rng.random());
            agenda.extend([(at, Fault::EngineAway { hangs }), (back, Fault::EngineBack { restarted })]);
        }
        4 => {
            let far = rng.random_bool(0.7);
            let by = if far { rng.random_range(-86_400..86_400) } else { rng.random_range(-20..20) };
            agenda.push((at, Fault::Jump(by)));
        }
        5 => agenda.push((at, Fault::Halt(back - at))),
        6 => agenda.extend([(at, Fault::Deaf), (back, Fault::Heard)]),
        7 => {
            let gaze = [Gaze::Fails, Gaze::Nothing, Gaze::Old][rng.random_range(0..3)];
            agenda.extend([(at, Fault::Eyes(gaze)), (back, Fault::Eyes(Gaze::True))]);
        }
        _ => agenda.extend([(at, Fault::Looks(false)), (back, Fault::Looks(true))]),
    }
}

/// From ten seconds to an hour, as often short as long.
fn short_or_long(rng: &mut StdRng) -> Duration {
    Duration::from_secs_f64(10.0 * 360.0f64.powf(rng.random()))
}
