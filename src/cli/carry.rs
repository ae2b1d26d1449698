//! `carry`: the process that connections are handed to which woke a container.

use std::path::Path;

use rustix::process::setsid;
use spindown::{
    carrier::process::{self, REST},
    model::Result,
};

use super::serve::{allow_descriptors, log_to_stderr};

/// Carries until there is nothing left to do.
pub(super) async fn carry(socket: &Path) -> Result<()> {
    log_to_stderr();
    allow_descriptors();
    // Started by a server, it must not end with the server's terminal. A unit's own process leads its session already.
    let _ = setsid();
    process::run(socket, REST).await
}
