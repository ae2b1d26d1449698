//! Touches: written to the store on an interval; the beat by which a gap or a jump of the clock is noticed; stops and
//! thaws that failed are taken up again.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::{meter, service::Spindown};

/// Runs until the server ends.
pub async fn run(spindown: Arc<Spindown>) {
    let mut ticks = interval(spindown.settings().flush_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = spindown.shutdown().cancelled() => return,
        }
        spindown.beat();
        spindown.flush().await;
        spindown.retry_stops().await;
        spindown.retry_thaws();
        meter::tidy();
    }
}
