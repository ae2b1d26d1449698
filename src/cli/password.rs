//! `hash-password`: what stands in the configuration in the place of a password.

use std::{
    io::{IsTerminal, Read},
    path::Path,
};

use spindown::{
    model::{Error, Result},
    service::user::Credentials,
};

/// Reads a password from standard input and prints its hash.
pub(super) fn hash() -> Result<()> {
    let password = read()?;
    if password.len() < 8 {
        return Err(Error::invalid("give a password of at least 8 characters on standard input"));
    }
    println!("{}", Credentials::with_password("", &password)?.hash());
    Ok(())
}

/// Reads a password from standard input and compares it with the hash in a file. It stands in a file because arguments are
/// for all users of a machine to see.
pub(super) fn check(file: &Path) -> Result<()> {
    let password = read()?;
    let hash =
        std::fs::read_to_string(file).map_err(|e| Error::invalid(format!("{} cannot be read: {e}", file.display())))?;
    if Credentials::new("", hash.trim())?.verify("", &password) {
        Ok(())
    } else {
        Err(Error::invalid("this is not the password of that hash"))
    }
}

fn read() -> Result<String> {
    if std::io::stdin().is_terminal() {
        eprintln!("Type the password, then Enter and Ctrl-D. It is shown as you type.");
    }
    let mut password = String::new();
    std::io::stdin().lock().take(4_096).read_to_string(&mut password).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}
