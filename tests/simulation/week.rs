//! A week in the life of ten thousand containers: users come and go by the day's rhythm, every container
//! reports once a minute while it is up, reports get lost, the server is killed and started again, store and engine go
//! away, hang and come back, the machine is halted and its clock is set.
//!
//! Two things must hold, and are judged by a truth of its own (`truth`):
//!
//! - **Not one false stop.** Nobody is stopped for being idle unless his timeout has passed since his last use that was
//!   heard, or that was told while the service could not hear, and since the service itself last was away: a start of it, an
//!   outage of the store or the engine, a halt, a jump of the clock. During an outage nobody is stopped at all.
//! - **None missed.** A container that has been due for one sweep is down: at the latest a minute after its timeout has
//!   passed since its last use, or since the first beat (every ten seconds here) after an outage was over.
//!
//! One container in ten has the whole ladder and is looked into: there it counts what its user sends and what works in it,
//! and what it reports only while the eyes fail. Now and then they lie, or look late. None of these is frozen or stopped
//! but after its time, as far as there was anything to see, and whoever sends something to a frozen one finds it going on
//! with the next beat.
//!
//! It prints its seed, and `SPINDOWN_SEED=… cargo nextest run week` plays that again. `make week` runs the long form.

mod fault;
mod life;
mod truth;
mod user;

use std::time::Duration;

use spindown::{
    clock::{Clock, SystemClock},
    engine::sim::Call,
    model::{Error, Kind, Moment},
};

use self::{
    fault::Fault,
    life::{Tally, Week},
};
use crate::support::world::minutes;

const DAY: Duration = Duration::from_secs(86_400);

/// Time stands still but for what is simulated.
fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// Lives so many days with so many containers, and prints what happened.
fn live(seed: u64, many: usize, days: u64) -> Tally {
    println!("SPINDOWN_SEED={seed}: {many} containers for {days} days");
    let clock = SystemClock::new();
    let tally = simulate(async { Week::furnish(seed, many, days, |_| {}).await.live(DAY * days as u32).await });
    println!("took {:?}: {tally:#?}", clock.now().moment.since(Moment::START));
    assert!(tally.idle_stops > 0 && tally.ordered_stops > 0 && tally.wakes > 0 && tally.lost > 0, "nothing happened");
    assert!(tally.freezes > 0 && tally.thaws > 0, "nothing was frozen");
    tally
}

/// The seed that is asked for, or any.
fn seed() -> u64 {
    asked("SPINDOWN_SEED").unwrap_or_else(rand::random)
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

#[test]
fn two_days_of_a_thousand() {
    live(seed(), 1_000, 2);
}

#[test]
fn a_seed_plays_the_same_again() {
    assert_eq!(live(1, 100, 2), live(1, 100, 2));
}

#[test]
#[should_panic(expected = "a false stop")]
fn a_service_that_overlooks_a_halt_is_found_out() {
    simulate(async {
        // So seldom it would beat that no gap is one.
        let mut week = Week::furnish(1, 100, 1, |settings| settings.flush_every = DAY).await;
        week.faults = (1..23).rev().map(|hour| (DAY / 24 * hour, Fault::Halt(minutes(20)))).collect();
        week.live(DAY).await;
    });
}

#[test]
#[should_panic(expected = "missed at")]
fn a_service_that_does_not_stop_the_idle_is_found_out() {
    simulate(async {
        let week = Week::furnish(1, 100, 1, |_| {}).await;
        for _ in 0..1_000 {
            week.world.sim.fail_next(Call::Stop, Error::new(Kind::Internal, "as arranged"));
        }
        week.live(DAY).await;
    });
}

#[test]
#[ignore = "takes long: make week"]
fn a_week_of_ten_thousand() {
    live(seed(), 10_000, asked("SPINDOWN_DAYS").unwrap_or(7));
}
