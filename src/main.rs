//! The binary: reads the command line and does what it says.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    // In tests only: where the server is to end.
    let _steps = fail::has_failpoints().then(fail::FailScenario::setup);
    match cli::CommandLine::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spindown: {error}");
            ExitCode::FAILURE
        }
    }
}
