//! Files in a container: the authorized keys that are put in, the host keys that are read.

use std::time::Duration;

use ssh_key::{Algorithm, HashAlg, PublicKey};
use tokio::sync::SemaphorePermit;

use crate::{
    model::{ContainerId, EngineId, Error, File, Image, Kind, Port, Result},
    service::{Spindown, Unpoisoned},
};

/// How many keys one container takes.
const MOST_KEYS: usize = 100;
/// Of how many images it is remembered who logs in.
const MOST_ACCOUNTS: usize = 256;
/// How long a file of ours in a container may be: users, groups and keys fit many times.
const FILE_LIMIT: usize = 1 << 20;
/// Where the SSH daemon keeps its host keys.
const HOST_KEY_FOLDER: &str = "/etc/ssh";
/// What that lies in: files that are read have its last part in their paths.
const HOST_KEY_PARENT: &str = "/etc";
/// How long the container may take to make its host keys and serve with them …
const HOST_KEY_TIME: Duration = Duration::from_secs(10);
/// How long those that are known are not read again after a start.
const KNOWN_KEYS_AFTER: Duration = Duration::from_secs(3);
/// … and how long they are looked for then: waits in ms.
const HOST_KEY_WAITS: [u64; 7] = [0, 100, 200, 400, 800, 1_600, 3_200];
/// How often it is looked whether starts are still under way.
const STARTS_FIRST: Duration = Duration::from_millis(50);

/// Public keys that may log in, one a line as in `authorized_keys`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKeys(String);

impl AuthorizedKeys {
    /// Reads one or more lines of `authorized_keys`.
    ///
    /// # Errors
    /// `Invalid`, naming the line, for anything that is not a public key.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains("PRIVATE KEY") {
            return Err(Error::invalid("authorized_keys: that is a private key; give the public one (the .pub file)"));
        }
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.len() > MOST_KEYS {
            return Err(Error::invalid(format!("authorized_keys: at most {MOST_KEYS} keys")));
        }
        for (number, line) in lines.iter().enumerate() {
            if !is_key_line(line) {
                return Err(Error::invalid(format!(
                    "authorized_keys: line {} is not a public key such as \"ssh-ed25519 AAAA… name\"",
                    number + 1
                )));
            }
        }
        Ok(Self(lines.iter().map(|line| format!("{line}\n")).collect()))
    }
}

/// Whether this is a line of `authorized_keys` as sshd(8) has it: options if any, key type, key, comment.
fn is_key_line(line: &str) -> bool {
    let key = |text: &str| {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else { return false };
        // A comment may be anything, so that it is left out of what is checked.
        Algorithm::new(kind).is_ok() && PublicKey::from_openssh(&format!("{kind} {key}")).is_ok()
    };
    let plain = !line.chars().any(|c| c.is_control() && c != '\t');
    plain && (key(line) || after_options(line).is_some_and(key))
}

/// What follows the first word, where quoted spaces do not end a word.
fn after_options(line: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Some(&line[at..]),
            _ => {}
        }
    }
    None
}

/// The keys of a container: who may log in, and by which it is known.
pub(super) struct Keys {
    authorized: Option<AuthorizedKeys>,
    host: Vec<File>,
}

impl Spindown {
    /// Replaces the keys that may log in as the image's SSH user.
    pub(super) async fn put_authorized_keys(&self, id: &EngineId, image: &str, keys: &AuthorizedKeys) -> Result<()> {
        let image = match self.engine.image(image).await {
            Ok(image) => image,
            Err(error) if error.kind() == Kind::NotFound => {
                return Err(Error::conflict(format!(
                    "the image {image:?}, which names the user to log in, is gone from the host"
                )));
            }
            Err(error) => return Err(error),
        };
        let account = self.read_account(id, &image).await?;
        self.put_keys(id, &account, keys).await
    }

    /// Puts the keys into a container that was just made. Its users are still those of its image, so that they are read
    /// once an image: a read costs the engine as much as a fifth of a start.
    pub(super) async fn put_first_keys(&self, id: &EngineId, image: &Image, keys: &AuthorizedKeys) -> Result<()> {
        let known = self.accounts.locked().get(&image.id).cloned();
        let account = match known {
            Some(account) => account,
            None => {
                let account = self.read_account(id, image).await?;
                let mut accounts = self.accounts.locked();
                if accounts.len() >= MOST_ACCOUNTS {
                    accounts.clear();
                }
                accounts.insert(image.id.clone(), account.clone());
                account
            }
        };
        self.put_keys(id, &account, keys).await
    }

    /// Who logs in, as the container itself tells.
    async fn read_account(&self, id: &EngineId, image: &Image) -> Result<Account> {
        let passwd = self.engine.get_files(id, "/etc/passwd", FILE_LIMIT).await?;
        let passwd = passwd.into_iter().find_map(|f| f.content).unwrap_or_default();
        let user = image.ssh_user();
        Account::find(&String::from_utf8_lossy(&passwd), user).ok_or_else(|| {
            Error::new(
                Kind::Unsuitable,
                format!("the image has no user {user:?} to log in as (its label spindown.ssh.user)"),
            )
        })
    }

    async fn put_keys(&self, id: &EngineId, account: &Account, keys: &AuthorizedKeys) -> Result<()> {
        let file = |path: &str, mode, content| File {
            path: path.to_owned(),
            mode,
            uid: account.uid,
            gid: account.gid,
            content,
        };
        let files = [file(".ssh", 0o700, None), file(".ssh/authorized_keys", 0o600, Some(keys.0.clone().into_bytes()))];
        self.engine.put_files(id, &account.home, &files).await
    }

    /// Waits for a turn to read host keys: a few at once, since all containers come up at once when the server starts,
    /// and after the starts, which somebody waits for.
    async fn key_read_turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.key_reads.acquire().await.ok();
        while self.starts.available_permits() == 0 {
            tokio::time::sleep(STARTS_FIRST).await;
        }
        turn
    }

    /// Reads the keys of a container of this image. What it has not got, or has spoilt, it has not.
    pub(super) async fn read_keys(&self, id: &EngineId, image: &Image) -> Result<Keys> {
        let lacking = |error: &Error| matches!(error.kind(), Kind::NotFound | Kind::Unsuitable);
        let authorized = async {
            let home = self.read_account(id, image).await?.home;
            self.engine.get_files(id, &format!("{home}/.ssh/authorized_keys"), FILE_LIMIT).await
        };
        let authorized = match authorized.await {
            Ok(files) => files.into_iter().find_map(|file| file.content),
            Err(error) if lacking(&error) => None,
            Err(error) => return Err(error),
        };
        let mut host = match self.engine.get_files(id, HOST_KEY_FOLDER, FILE_LIMIT).await {
            Ok(files) => files,
            Err(error) if lacking(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        host.retain(|file| file.content.is_some() && is_host_key(&file.path));
        let authorized = authorized.map(|text| AuthorizedKeys(String::from_utf8_lossy(&text).into_owned()));
        Ok(Keys { authorized, host })
    }

    /// Puts the keys of another container of this image in.
    pub(super) async fn hand_keys_over(&self, id: &EngineId, image: &str, keys: &Keys) -> Result<()> {
        if let Some(authorized) = &keys.authorized {
            self.put_authorized_keys(id, image, authorized).await?;
        }
        if keys.host.is_empty() {
            return Ok(());
        }
        self.engine.put_files(id, HOST_KEY_PARENT, &keys.host).await
    }

    /// Reads the fingerprints of the host keys as soon as the container has made them.
    pub(in crate::service) async fn learn_host_keys(&self, id: &ContainerId, engine_id: &EngineId) {
        let Some(entry) = self.snapshot.get(id).filter(|e| Port::ssh(&e.container.ports).is_some()) else { return };
        if !entry.container.ssh_host_keys.is_empty() {
            // They are most likely the same, and somebody may be waiting for this start.
            tokio::select! {
                () = tokio::time::sleep(KNOWN_KEYS_AFTER) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
        tokio::select! {
            () = self.await_ssh(id, HOST_KEY_TIME) => {}
            () = self.shutdown.cancelled() => return,
        }
        for wait in HOST_KEY_WAITS {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = self.shutdown.cancelled() => return,
            }
            let turn = tokio::select! {
                turn = self.key_read_turn() => turn,
                () = self.shutdown.cancelled() => return,
            };
            let files = self.engine.get_files(engine_id, HOST_KEY_FOLDER, FILE_LIMIT).await;
            drop(turn);
            let Ok(files) = files else { continue };
            let fingerprints = fingerprints(&files);
            if !fingerprints.is_empty() {
                self.snapshot.update(id, |entry| {
                    entry.unsaved |= entry.container.ssh_host_keys != fingerprints;
                    entry.container.ssh_host_keys = fingerprints;
                });
                self.save(id).await;
                return;
            }
        }
    }
}

/// Whether a file in the folder of the host keys is one, or its public half.
fn is_host_key(path: &str) -> bool {
    let Some(("ssh", name)) = path.split_once('/') else { return false };
    let key = name.strip_suffix(".pub").unwrap_or(name);
    key.starts_with("ssh_host_") && key.ends_with("_key") && !key.contains('/')
}

/// The SHA-256 fingerprints of the public host keys among `files`, sorted.
fn fingerprints(files: &[File]) -> Vec<String> {
    let public = |file: &&File| is_host_key(&file.path) && file.path.ends_with(".pub");
    let keys = files.iter().filter(public).filter_map(|file| {
        let key = PublicKey::from_openssh(std::str::from_utf8(file.content.as_deref()?).ok()?).ok()?;
        Some(format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)))
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    keys
}

/// A user, as `/etc/passwd` tells of him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) struct Account {
    uid: u64,
    gid: u64,
    home: String,
}

impl Account {
    /// Finds a user in the text of `/etc/passwd`.
    fn find(passwd: &str, user: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            (name == user && home.starts_with('/')).then(|| Self { uid, gid, home: home.to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home";

    #[test]
    fn keys_are_lines_of_authorized_keys() {
        let keys = AuthorizedKeys::parse(&format!("# mine\r\n{KEY}\r\n\n no-pty,command=\"ls -l\" {KEY}\n")).unwrap();
        assert_eq!(keys.0, format!("{KEY}\nno-pty,command=\"ls -l\" {KEY}\n"));
        assert_eq!(AuthorizedKeys::parse("").unwrap().0, "");
        let spoken = format!("{KEY} on my laptop, the \"old\" one");
        assert_eq!(AuthorizedKeys::parse(&spoken).unwrap().0, format!("{spoken}\n"));
        for bad in [
            "hello",
            &format!("command=\"ls {KEY}"),
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-rsa \u{1}",
        ] {
            assert!(AuthorizedKeys::parse(bad).is_err(), "{bad}");
        }
        assert!(AuthorizedKeys::parse(&format!("{KEY}\nx")).unwrap_err().message().contains("line 2"));
        assert!(AuthorizedKeys::parse(&format!("{KEY}\n").repeat(MOST_KEYS + 1)).is_err());
    }

    #[test]
    fn accounts_are_found_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nstudent:x:1000:1001:,,,:/home/student:/bin/bash\nodd:x:1:1::relative:\n";
        assert_eq!(
            Account::find(passwd, "student"),
            Some(Account { uid: 1000, gid: 1001, home: "/home/student".into() })
        );
        assert_eq!(Account::find(passwd, "root").map(|a| a.uid), Some(0));
        assert_eq!(Account::find(passwd, "odd"), None);
        assert_eq!(Account::find(passwd, "nobody"), None);
    }

    #[test]
    fn fingerprints_are_those_of_the_public_host_keys() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: Some(text.as_bytes().to_vec()),
        };
        let files = [
            file("ssh/ssh_host_ed25519_key.pub", KEY),
            file("ssh/ssh_host_ed25519_key", "secret"),
            file("ssh/ssh_host_rsa_key.pub", "damaged"),
            file("ssh/sshd_config", KEY),
        ];
        let found = fingerprints(&files);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("ssh-ed25519 SHA256:"), "{found:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = AuthorizedKeys::parse(&text);
            let _ = Account::find(&text, "root");
        }
    }
}
