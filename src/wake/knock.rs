//! Knocks: whoever comes for a frozen container has it go on.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;

use crate::{model::Result, service::Spindown};

/// How long to wait before it is listened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the server ends.
pub async fn hear_knocks(spindown: Arc<Spindown>) {
    loop {
        let outcome = tokio::select! {
            outcome = follow(&spindown) => outcome,
            () = spindown.shutdown().cancelled() => return,
        };
        spindown.hears(outcome);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = spindown.shutdown().cancelled() => return,
        }
    }
}

/// Follows what comes until that cannot be told any more.
async fn follow(spindown: &Spindown) -> Result<()> {
    let mut knocks = spindown.knocks().await?;
    spindown.hears(Ok(()));
    while let Some(knock) = knocks.next().await {
        spindown.heed_knock(knock);
    }
    Err(crate::model::Error::unavailable("what comes for frozen containers is not told any more"))
}
