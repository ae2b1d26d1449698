//! The command line: `serve` (the default), `config`, `hash-password`.

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use spindown::{
    Adapters, Server,
    clock::SystemClock,
    config::{self, DEFAULT_PASSWORD, Loaded},
    engine::docker::Docker,
    firewall::{Firewall, NoFirewall, nft::Nft, rules::Rules},
    model::{Error, Result},
    service::user::Credentials,
    store::{Store, embedded::Embedded, redis::Redis},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Containers that sleep: hands out sandboxes, watches who uses them, stops the idle ones.
#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the API and the check-ins, until SIGTERM (the default).
    ///
    /// The configuration is read from Rocket.toml, or the file that ROCKET_CONFIG names; ROCKET_ADDRESS, ROCKET_PORT and
    /// the like override Rocket's keys, SPINDOWN_IDLE_TIMEOUT, SPINDOWN_REDIS_URL and the like those of [spindown].
    /// `spindown config` prints what is in force. RUST_LOG sets how much is logged (info by default).
    Serve {
        /// Print what to try next once the server listens.
        #[arg(long)]
        hints: bool,
    },
    /// Print the effective configuration, secrets masked.
    Config,
    /// Read a password from standard input and print its hash for spindown.auth.password_hash.
    HashPassword,
}

#[tokio::main]
async fn main() -> ExitCode {
    // In tests only: where the server is to end.
    let _steps = fail::has_failpoints().then(fail::FailScenario::setup);
    let outcome = match CommandLine::parse().verb.unwrap_or(Verb::Serve { hints: false }) {
        Verb::Serve { hints } => serve(hints).await,
        Verb::Config => config::load().and_then(|loaded| loaded.to_toml()).map(|text| print!("{text}")),
        Verb::HashPassword => hash_password(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spindown: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(hints: bool) -> Result<()> {
    log_to_stderr();
    let loaded = config::load()?;
    warn_of_overlap(&loaded);
    let adapters = adapters(&loaded).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::conflict(e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::conflict(e.to_string()))?;
    let mut server = Server::start(&loaded, adapters).await?;
    tracing::info!(address = %server.address(), "serving");
    if hints {
        print_hints(&loaded, &server);
    }
    tokio::select! {
        outcome = server.failed() => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}

/// The real ones.
async fn adapters(loaded: &Loaded) -> Result<Adapters> {
    let config = &loaded.config;
    let store: Arc<dyn Store> = match &config.redis_url {
        Some(url) => Arc::new(Redis::connect(url, &config.instance.to_string()).await?),
        None => Arc::new(Embedded::open(config.data.path())?),
    };
    let firewall: Arc<dyn Firewall> = if config.firewall.enabled {
        Arc::new(Nft::new(rules(loaded))?)
    } else {
        tracing::warn!("the firewall is switched off: containers reach each other's ports and the host's services");
        Arc::new(NoFirewall)
    };
    let engine = Arc::new(Docker::connect(config.engine.as_str(), &config.instance.to_string())?);
    Ok(Adapters { engine, store, firewall, clock: Arc::new(SystemClock::new()) })
}

/// The rules for the containers' network.
fn rules(loaded: &Loaded) -> Rules {
    let network = loaded.network();
    Rules {
        table: network.name.clone(),
        bridge: network.bridge.clone(),
        gateway: network.gateway(),
        check_in_port: loaded.config.check_in.port,
        subnet: network.subnet,
    }
}

/// Human on a terminal, JSON otherwise.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,rocket=off,_=off,tokio_cron_scheduler=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { log.compact().init() } else { log.json().init() }
}

/// A port that the kernel hands out to anybody's outgoing connection may be taken when a container wants it back.
fn warn_of_overlap(loaded: &Loaded) {
    let Ok(text) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return };
    let bounds: Vec<u16> = text.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    let ports = &loaded.config.ports;
    if let [first, last] = bounds[..]
        && ports.first <= last
        && first <= ports.last
    {
        tracing::warn!(
            "ports {} to {} overlap the kernel's ephemeral range {first} to {last}: outgoing connections may take them; \
             change spindown.ports, or net.ipv4.ip_local_port_range",
            ports.first,
            ports.last
        );
    }
}

fn hash_password() -> Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("Type the password, then Enter and Ctrl-D. It is shown as you type.");
    }
    let mut password = String::new();
    std::io::stdin().lock().take(4_096).read_to_string(&mut password).map_err(|e| Error::invalid(e.to_string()))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.len() < 8 {
        return Err(Error::invalid("give a password of at least 8 characters on standard input"));
    }
    println!("{}", Credentials::with_password("", password)?.hash());
    Ok(())
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
