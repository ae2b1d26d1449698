//! `serve`: the server, from its start to a signal.

use std::io::IsTerminal;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spindown::{
    Server,
    config::{self, DEFAULT_PASSWORD, Loaded},
    model::{Error, Result},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{adapters::adapters, doctor};

/// Serves until SIGTERM, Ctrl-C or a failure.
pub(super) async fn serve(hints: bool) -> Result<()> {
    log_to_stderr();
    allow_descriptors();
    let loaded = config::load()?;
    if let Some(overlap) = doctor::overlap(&loaded) {
        tracing::warn!("{overlap}");
    }
    let adapters = adapters(&loaded).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::conflict(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::conflict(e.to_string()))?;
    let mut server = Server::start(&loaded, adapters).await?;
    tracing::info!(address = %server.address(), "serving");
    if hints {
        tokio::select! {
            findings = doctor::examine(&loaded, server.address()) => print!("\n{}", doctor::table(&findings)),
            _ = terminate.recv() => return end(server).await,
            _ = interrupt.recv() => return end(server).await,
        }
        print_hints(&loaded, &server);
    }
    tokio::select! {
        outcome = server.failed() => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    end(server).await
}

async fn end(server: Server) -> Result<()> {
    server.stop().await;
    Ok(())
}

/// Takes as many descriptors as the machine grants. Every connection needs one, check-ins and calls of the engine too, and
/// a shell grants a thousand unless it is asked for more.
pub(super) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "no more descriptors may be had");
    }
}

/// What would write whole requests, with the credentials in their headers, however much is asked for.
const WRITES_REQUESTS: &str = "rocket::server=error";

/// What tells nothing that is not told better elsewhere, unless RUST_LOG names it.
const NOISE: &str = "rocket=off,_=off,tokio_cron_scheduler=warn";

/// Human on a terminal, JSON otherwise.
pub(super) fn log_to_stderr() {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::try_new(format!("{NOISE},{wanted},{WRITES_REQUESTS}"))
        .ok()
        .filter(|_| !wanted.is_empty())
        .unwrap_or_else(|| EnvFilter::new(format!("info,{NOISE}")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { log.compact().init() } else { log.json().init() }
}

fn print_hints(loaded: &Loaded, server: &Server) {
    let user = &loaded.config.auth.user;
    let password = if loaded.config.auth.password_hash.is_none() { DEFAULT_PASSWORD } else { "<your password>" };
    let address = server.address();
    println!(
        "
Spindown serves at http://{address}, user {user}, password {password}.

Hand out a sandbox, with your own key (make one with ssh-keygen -t ed25519):
  curl -u {user}:{password} -d image=spindown/ssh -d name=mine --data-urlencode authorized_keys@$HOME/.ssh/id_ed25519.pub http://{address}/v1/containers
Log in, on the ssh_port of the answer:
  ssh -p $(curl -s -u {user}:{password} http://{address}/v1/containers/mine | grep -o '\"ssh_port\":\"[0-9]*' | grep -o '[0-9]*$') student@localhost
See why it is up, stop it, start it again on the same port, remove it:
  curl -u {user}:{password} http://{address}/v1/containers/mine/activity
  curl -u {user}:{password} -X PATCH -d status=stopped http://{address}/v1/containers/mine
  curl -u {user}:{password} -X PATCH -d status=running http://{address}/v1/containers/mine
  curl -u {user}:{password} -X DELETE http://{address}/v1/containers/mine

Ctrl-C ends Spindown; the containers keep running."
    );
}
