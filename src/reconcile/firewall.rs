//! Firewall: the rules are put back when somebody has taken them away.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::service::Spindown;

/// How often the rules are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Runs until the server ends.
pub async fn run(spindown: Arc<Spindown>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => spindown.ensure_firewall().await,
            () = spindown.shutdown().cancelled() => return,
        }
    }
}
