//! The command line's verbs, one noun a file. With `main` the only place that names concrete adapters.

mod adapters;
mod backup;
mod carry;
mod config;
mod doctor;
mod password;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use spindown::model::Result;

/// Containers that sleep: hands out sandboxes, watches who uses them, stops the idle ones.
#[derive(Parser)]
#[command(version, about)]
pub(crate) struct CommandLine {
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
        /// Once the server listens, print what the doctor finds and what to try next.
        #[arg(long)]
        hints: bool,
    },
    /// Look at all that Spindown stands on, and say of each what is wrong and how to mend it. Changes nothing.
    ///
    /// Run it where the server runs, with the server's configuration, whether that serves or not. Exits with 1 if there is
    /// a problem, with 0 otherwise.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write all that the store holds into a file, while the server serves or not.
    Backup {
        /// The file; - is standard output.
        file: PathBuf,
    },
    /// Put what a backup holds into the store. The server must be stopped.
    Restore {
        /// The file; - is standard input.
        file: PathBuf,
        /// Replace all that the store holds. Without this it must be empty.
        #[arg(long)]
        replace: bool,
    },
    /// Move records that cannot be read out of the store into a file, so that the server starts again.
    ///
    /// A container whose record was moved away is adopted again from its labels. With the embedded store the server must
    /// be stopped. Records of a newer Spindown stay: upgrade instead.
    SetAside {
        /// The file, which must not be there yet.
        file: PathBuf,
    },
    /// Carry the connections that woke a container. A server starts this by itself where no unit has.
    ///
    /// It ends when nothing is carried and no server is connected to it. To end a server does not end it.
    Carry {
        /// The socket on which servers hand over connections: carrier-1.sock in the data folder. Without it, the one that
        /// is standard input, as a unit with StandardInput=socket gives it.
        socket: Option<PathBuf>,
    },
    /// Print the effective configuration, secrets masked.
    Config,
    /// Read a password from standard input and print its hash for spindown.auth.password_hash.
    HashPassword {
        /// Print nothing: succeed if the password is the one whose hash this file holds, and fail if it is not.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
}

impl CommandLine {
    /// Does what the verb says.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.verb.unwrap_or(Verb::Serve { hints: false }) {
            Verb::Serve { hints } => serve::serve(hints).await?,
            Verb::Doctor { json } => return doctor::doctor(json).await,
            Verb::Backup { file } => backup::backup(&file).await?,
            Verb::Restore { file, replace } => backup::restore(&file, replace).await?,
            Verb::SetAside { file } => backup::set_aside(&file).await?,
            Verb::Carry { socket } => carry::carry(socket.as_deref()).await?,
            Verb::Config => config::print()?,
            Verb::HashPassword { check: None } => password::hash()?,
            Verb::HashPassword { check: Some(file) } => password::check(&file)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
