//! Backups: all that a store holds, and the file that carries it from one store to another. JSON, a line each: a head,
//! a line for each record as `record` writes it, and an end with the count and a digest, by which a file that was cut
//! off or changed is told. No record holds a password.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, serde::rfc3339};

use super::{
    Attempt,
    record::{self, Kept},
};
use crate::model::{Activity, Claim, Container, ContainerId, Error, HostName, Kind, Result};

/// The version of the file that this Spindown writes, and the newest that it reads. It rises with that of the records in
/// it: whoever cannot read them is told so by the first line.
pub const VERSION: u32 = 2;
/// The largest file that is read, in bytes: many times what a hundred thousand containers need.
pub const LIMIT: u64 = 1 << 30;

/// What an `Idempotency-Key` is kept under: a digest, which bounds its length and keeps what callers sent to them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey(String);

impl AttemptKey {
    /// The digest of a key.
    pub fn of(key: &str) -> Self {
        Self(format!("{:x}", Sha256::digest(key)))
    }

    /// Reads one back. `Invalid` if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && hex {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is no digest of an idempotency key")))
        }
    }

    /// Its hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The records of containers.
    pub containers: Vec<Container>,
    /// What is remembered of their use.
    pub activities: Vec<(ContainerId, Activity)>,
    /// Who holds what on which host.
    pub claims: Vec<(HostName, Claim, ContainerId)>,
    /// The creates that may be repeated.
    pub attempts: Vec<(AttemptKey, Attempt)>,
}

impl Contents {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.containers.len() + self.activities.len() + self.claims.len() + self.attempts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What it is a record of.
    pub of: Table,
    /// The key that it lies under.
    pub key: String,
    /// What lies there.
    pub bytes: Vec<u8>,
    /// Why it cannot be read, with what to do.
    pub why: String,
    /// Whether a newer Spindown wrote it, which can read it.
    pub newer: bool,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Of containers.
    Containers,
    /// Of their use.
    Activity,
    /// Of creates that may be repeated.
    Attempts,
}

impl Table {
    /// The word for one record of it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Containers => Container::NOUN,
            Self::Activity => Activity::NOUN,
            Self::Attempts => Attempt::NOUN,
        }
    }

    /// What is wrong with the JSON record under `key`, if anything is.
    pub(super) fn fault(self, key: &str, bytes: &[u8]) -> Option<Unreadable> {
        let outcome = match self {
            Self::Containers => record::read::<Container>(key, bytes).map(drop),
            Self::Activity => record::read::<Activity>(key, bytes).and_then(|_| ContainerId::parse(key).map(drop)),
            Self::Attempts => record::read::<Attempt>(key, bytes).map(drop),
        };
        outcome.err().map(|error| self.unreadable(key, bytes, &error))
    }

    /// The record under `key`, which cannot be read for this reason.
    pub(super) fn unreadable(self, key: &str, bytes: &[u8], error: &Error) -> Unreadable {
        let (key, bytes, why) = (key.to_owned(), bytes.to_vec(), error.message().to_owned());
        Unreadable { of: self, key, newer: record::is_newer(&bytes), bytes, why }
    }
}

/// A store as a whole. Only the command line asks for it: no server needs it to serve.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// All that is there, as it was at one moment. `Internal` if a record cannot be read: nothing is left out.
    async fn export(&self) -> Result<Contents>;

    /// Puts `contents` there, all or nothing. `Conflict` if the store holds anything, unless that is to be replaced.
    async fn import(&self, contents: &Contents, replace: bool) -> Result<()>;

    /// The records that cannot be read.
    async fn unreadable(&self) -> Result<Vec<Unreadable>>;

    /// Takes such a record out, if it is still as it was seen; answers whether it was.
    async fn take_out(&self, record: &Unreadable) -> Result<bool>;
}

/// What is said to whoever would restore over what is there.
pub(super) fn not_empty() -> Error {
    Error::conflict("the store is not empty: back it up, then restore with --replace, which replaces all it holds")
}

/// The first line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the file.
    pub spindown_backup: u32,
    /// The Spindown that wrote it.
    pub written_by: String,
    /// The instance whose containers these are.
    pub instance: String,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub made_at: OffsetDateTime,
}

impl Head {
    /// The head of a backup that is made now.
    pub fn new(instance: impl Into<String>, now: OffsetDateTime) -> Self {
        Self {
            spindown_backup: VERSION,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.into(),
            made_at: now,
        }
    }
}

/// Read on its own and first: the rest of a newer file may look different.
#[derive(Deserialize)]
struct Start {
    spindown_backup: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Container { key: String, record: Value },
    Activity { key: String, record: Value },
    Claim { host: String, key: String, holder: String },
    Attempt { key: String, record: Value },
    End { records: usize, sha256: String },
}

/// Writes a backup.
///
/// # Errors
/// `Internal` if something cannot be written down.
pub fn write(head: &Head, contents: &Contents) -> Result<String> {
    let mut text = line(head)?;
    for container in &contents.containers {
        text += &line(&Line::Container { key: container.id.to_string(), record: value(container)? })?;
    }
    for (id, activity) in &contents.activities {
        text += &line(&Line::Activity { key: id.to_string(), record: value(activity)? })?;
    }
    for (host, claim, holder) in &contents.claims {
        let (host, key, holder) = (host.as_str().to_owned(), record::claim_key(claim), holder.to_string());
        text += &line(&Line::Claim { host, key, holder })?;
    }
    for (key, attempt) in &contents.attempts {
        text += &line(&Line::Attempt { key: key.as_str().to_owned(), record: value(attempt)? })?;
    }
    let sha256 = format!("{:x}", Sha256::digest(&text));
    text += &line(&Line::End { records: contents.len(), sha256 })?;
    Ok(text)
}

fn value<T: Kept>(kept: &T) -> Result<Value> {
    serde_json::from_str(&record::write(kept)?).map_err(unwritable)
}

fn line(line: &impl Serialize) -> Result<String> {
    serde_json::to_string(line).map(|text| text + "\n").map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(Kind::Internal, "the backup cannot be written").caused_by(error)
}

/// Reads a backup.
///
/// # Errors
/// `Invalid` if it is none, was cut off or changed, or was written by a newer Spindown, with what to do.
pub fn read(bytes: &[u8]) -> Result<(Head, Contents)> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (first, _) = text.split_once('\n').ok_or_else(|| Error::invalid("this is no backup of Spindown's"))?;
    let start: Start =
        serde_json::from_str(first).map_err(|e| Error::invalid("this is no backup of Spindown's").caused_by(e))?;
    if !(1..=VERSION).contains(&start.spindown_backup) {
        return Err(Error::invalid(format!(
            "this backup is of version {}, this Spindown reads up to version {VERSION}: restore it with the Spindown that wrote \
             it, or a newer one",
            start.spindown_backup
        )));
    }
    let head: Head = serde_json::from_str(first).map_err(|e| damaged("its first line cannot be read").caused_by(e))?;
    let body = text.strip_suffix('\n').ok_or_else(|| damaged("it was cut off"))?;
    let (told, last) = body.rsplit_once('\n').ok_or_else(|| damaged("it was cut off"))?;
    let Ok(Line::End { records, sha256 }) = serde_json::from_str(last) else {
        return Err(damaged("it was cut off"));
    };
    if sha256 != format!("{:x}", Sha256::digest(&text[..=told.len()])) {
        return Err(damaged("it was changed since it was made"));
    }
    let mut contents = Contents::default();
    for (number, text) in told.lines().enumerate().skip(1) {
        let place = |e: Error| damaged(&format!("line {}: {}", number + 1, e.message())).caused_by(e);
        let line: Line = serde_json::from_str(text)
            .map_err(|e| damaged(&format!("line {} cannot be read", number + 1)).caused_by(e))?;
        take(&mut contents, line).map_err(place)?;
    }
    if contents.len() != records {
        return Err(damaged("records are missing"));
    }
    Ok((head, contents))
}

fn take(contents: &mut Contents, line: Line) -> Result<()> {
    match line {
        Line::Container { key, record } => contents.containers.push(record::read(&key, record.to_string().as_bytes())?),
        Line::Activity { key, record } => {
            let activity = record::read(&key, record.to_string().as_bytes())?;
            contents.activities.push((ContainerId::parse(&key)?, activity));
        }
        Line::Claim { host, key, holder } => {
            let holder = record::read_holder(&key, &holder)?;
            contents.claims.push((HostName::new(host), record::read_claim(&key)?, holder));
        }
        Line::Attempt { key, record } => {
            let attempt = record::read(&key, record.to_string().as_bytes())?;
            contents.attempts.push((AttemptKey::parse(&key)?, attempt));
        }
        Line::End { .. } => return Err(Error::invalid("it ends before its end")),
    }
    Ok(())
}

fn damaged(why: &str) -> Error {
    Error::invalid(format!("this backup is damaged, {why}: take another one"))
}

#[cfg(test)]
mod tests;
