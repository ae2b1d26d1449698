//! What has to hold for the door to do its work, brought about whenever that may have changed: the kernel knows which
//! ports are asleep, nobody else takes them, and what is carried is heard of.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::reserve::Reserved;
use crate::service::Spindown;

/// How often all of it is looked at though nothing is known to have changed.
const EVERY: Duration = Duration::from_secs(5);
/// Events within this time are heeded at once.
const GATHER: Duration = Duration::from_millis(10);

/// Runs until the server ends.
pub async fn keep(spindown: Arc<Spindown>) {
    let mut changes = spindown.last_event();
    let mut reserved = Reserved::new(spindown.settings().bind);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => spindown.keep_door().await,
            Ok(()) = changes.changed() => {
                let gathered = Instant::now() + GATHER;
                spindown.divert_or_later().await;
                spindown.watch_or_later().await;
                sleep_until(gathered).await;
            }
            () = spindown.shutdown().cancelled() => return,
        }
        reserved.hold(&spindown.ports_down());
    }
}
