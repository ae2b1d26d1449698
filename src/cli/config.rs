//! `config`: what is in force.

use spindown::{config, model::Result};

/// Prints the effective configuration, secrets masked.
pub(super) fn print() -> Result<()> {
    print!("{}", config::load()?.to_toml()?);
    Ok(())
}
