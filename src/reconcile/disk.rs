//! What containers take of the disk: measured one after the other, with long rests, so that nobody feels it.

use std::{sync::Arc, time::Duration};

use crate::service::Spindown;

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How much longer a rest is than the work before it.
const REST: u32 = 4;

/// Runs until the server ends.
pub async fn run(spindown: Arc<Spindown>) {
    loop {
        let work = async {
            match spindown.measure_next().await {
                Some(took) => tokio::time::sleep(took * REST).await,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        tokio::select! {
            () = work => {}
            () = spindown.shutdown().cancelled() => return,
        }
    }
}
