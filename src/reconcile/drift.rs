//! Drift: the snapshot follows the engine, through whatever happens to the connection.

use std::{sync::Arc, time::Duration};

use crate::{
    model::Result,
    service::{Spindown, host::Following},
};

/// How long to wait before the engine is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the engine until the server ends, meeting it again whenever it has been lost; at first as it was `met`.
pub async fn run(spindown: Arc<Spindown>, mut met: Option<Following>) {
    while !spindown.shutdown().is_cancelled() {
        if let Err(error) = follow(&spindown, met.take()).await {
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

async fn follow(spindown: &Spindown, met: Option<Following>) -> Result<()> {
    let following = match met {
        Some(following) => following,
        None => spindown.meet_engine().await?,
    };
    spindown.follow_engine(following).await
}
