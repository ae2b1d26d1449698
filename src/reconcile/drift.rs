//! Drift: the snapshot follows the engine, through whatever happens to the connection.

use std::{sync::Arc, time::Duration};

use crate::service::Spindown;

/// How long to wait before the engine is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the engine until the server ends, connecting again whenever it has been lost.
pub async fn run(spindown: Arc<Spindown>) {
    while !spindown.shutdown().is_cancelled() {
        if let Err(error) = spindown.follow_engine().await {
            tracing::warn!(error = error.message(), source = ?error, "the engine cannot be followed");
        }
        if spindown.shutdown().is_cancelled() {
            return;
        }
        spindown.lose_engine();
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = spindown.shutdown().cancelled() => {}
        }
    }
}
