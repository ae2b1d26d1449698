//! `hash-password`: what stands in the configuration in the place of a password.

use std::io::{IsTerminal, Read};

use spindown::{
    model::{Error, Result},
    service::user::Credentials,
};

/// Reads a password from standard input and prints its hash.
pub(super) fn hash() -> Result<()> {
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
