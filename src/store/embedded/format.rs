//! The format of the file: the tables there have to be, older formats brought to the present one, and what is said of a
//! file that cannot be opened.

use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::file::{ACTIVITY, ATTEMPTS, CLAIMS, CONTAINERS, Fault, META, translated, unusable};
use crate::{
    model::{Error, Kind, Result},
    store::backup::AttemptKey,
};

/// The layout of the tables that this Spindown writes. What the older ones were like stands at [`upgrade`].
const FORMAT: u64 = 2;
/// Memory for pages that were read: more than the state of a thousand containers.
const CACHE: usize = 16 << 20;

/// Opens the database and brings it to the present format; a new one gets its tables. What cannot be opened is left as
/// it is.
pub(super) fn open(path: &Path) -> Result<Database> {
    caught(path, || {
        // To open it for writing changes it. One that was not closed in order cannot be opened otherwise.
        if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            match Database::builder().open_read_only(path) {
                Err(redb::DatabaseError::RepairAborted) => {}
                Err(error) => return Err(refused(path, error)),
                Ok(database) => {
                    let look = || -> Result<_, Fault> { format(&database.begin_read()?) };
                    check_format(path, look().map_err(translated)?)?;
                }
            }
        }
        let database = Database::builder().set_cache_size(CACHE).create(path).map_err(|error| refused(path, error))?;
        let work = || -> Result<(), Fault> {
            let found = format(&database.begin_read()?)?;
            check_format(path, found)?;
            match found {
                Some(FORMAT) => Ok(()),
                None => initialise(&database),
                Some(older) => upgrade(&database, older),
            }
        };
        work().map_err(translated)?;
        Ok(database)
    })
}

/// Works on a file that may be damaged in ways that redb does not reckon with: it panics then.
pub(super) fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Error::new(Kind::Internal, damaged(path)));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// Why the database cannot be opened, with what to do.
pub(super) fn refused(path: &Path, error: redb::DatabaseError) -> Error {
    let is_no_database = |e: &io::Error| matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            Error::conflict(format!("{} is in use by another server: stop that one", path.display()))
        }
        redb::DatabaseError::UpgradeRequired(version) => Error::new(
            Kind::Internal,
            format!(
                "{} is a database of version {version}, which this Spindown does not know: back it up with the Spindown that \
                 wrote it, move it away, and restore the backup",
                path.display()
            ),
        ),
        redb::DatabaseError::Storage(redb::StorageError::Io(e)) if is_no_database(&e) => {
            Error::new(Kind::Internal, damaged(path)).caused_by(e)
        }
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(e)) => {
            Error::new(Kind::Internal, damaged(path)).caused_by(e)
        }
        other => unusable(other.into()),
    }
}

fn damaged(path: &Path) -> String {
    format!(
        "{} is damaged, or no store: move it away, then `spindown restore` a backup, or start without one (the \
         containers are adopted again, with what they were made with)",
        path.display()
    )
}

fn newer(path: &Path, format: &str) -> Error {
    Error::new(
        Kind::Internal,
        format!(
            "{} is of {format}, written by a newer Spindown; this one knows formats up to {FORMAT}: upgrade this Spindown, \
             or move the file away and restore a backup that this one made",
            path.display()
        ),
    )
}

/// Refuses what a newer Spindown wrote.
pub(super) fn check_format(path: &Path, format: Option<u64>) -> Result<()> {
    match format {
        Some(format) if format > FORMAT => Err(newer(path, &format!("format {format}"))),
        Some(0) => Err(Error::new(Kind::Internal, damaged(path))),
        _ => Ok(()),
    }
}

/// The format; `None` where nothing was written yet.
pub(super) fn format(transaction: &ReadTransaction) -> Result<Option<u64>, Fault> {
    match transaction.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|f| f.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Brings a database of an older format to the present one, in one transaction: it is done, or was never begun.
///
/// In format 1 attempts lay under the idempotency keys themselves.
fn upgrade(database: &Database, from: u64) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    if from < 2 {
        let mut attempts = transaction.open_table(ATTEMPTS)?;
        let mut old = Vec::new();
        for row in attempts.extract_if(|_, _| true)? {
            let (key, bytes) = row?;
            old.push((AttemptKey::of(key.value()), bytes.value().to_vec()));
        }
        for (key, bytes) in old {
            attempts.insert(key.as_str(), bytes.as_slice())?;
        }
    }
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    tracing::info!(from, to = FORMAT, "the store was brought to the present format");
    Ok(())
}

/// Makes every table at once, so that no reader has to reckon with one that is not there.
fn initialise(database: &Database) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(CONTAINERS)?;
    transaction.open_table(ACTIVITY)?;
    transaction.open_table(CLAIMS)?;
    transaction.open_table(ATTEMPTS)?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    Ok(())
}
