//! `carry`: the process that connections are handed to which woke a container.

use std::{
    io::{self, stdin},
    os::fd::AsFd,
    path::Path,
    process::Stdio,
};

use rustix::process::setsid;
use spindown::{
    carrier::process::{self, REST},
    model::{Error, Result},
};

use super::serve::{allow_descriptors, log_to_stderr};

/// Starts a carrier that listens at this path, and outlives whoever starts it.
pub(super) fn start(socket: &Path) -> io::Result<()> {
    // What is not waited for here is by the runtime.
    // This very program, by its name as long as no other has taken that.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let carrier = tokio::process::Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()))
        .arg("carry")
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    tracing::info!(pid = carrier.id(), "a carrier was started");
    Ok(())
}

/// Carries until there is nothing left to do; without a path, on the socket that is standard input.
pub(super) async fn carry(socket: Option<&Path>) -> Result<()> {
    log_to_stderr();
    allow_descriptors();
    // Started by a server, it must not end with the server's terminal. A unit's own process leads its session already.
    let _ = setsid();
    let listening = match socket {
        Some(path) => process::listen(path).await?,
        None => process::inherit(stdin().as_fd().try_clone_to_owned().map_err(|e| Error::invalid(e.to_string()))?)?,
    };
    process::run(listening, REST).await;
    Ok(())
}
