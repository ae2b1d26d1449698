//! The file: opened for one server alone, and opened again after an error. Its format is `format`'s.
//!
//! An I/O error (a full disk, say) leaves the database unusable until it is closed. So every error closes it, and the
//! next use opens it again: what was committed is still there. The lock is a file of its own, held throughout.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use super::format::open;
use crate::model::{Error, Kind, Result};

/// What there is to know of the file itself.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Container id -> container record.
pub(super) const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
/// Container id -> activity record.
pub(super) const ACTIVITY: TableDefinition<&str, &[u8]> = TableDefinition::new("activity");
/// Host and claim -> id of the holder.
pub(super) const CLAIMS: TableDefinition<(&str, &str), &str> = TableDefinition::new("claims");
/// Digest of the idempotency key -> attempt record.
pub(super) const ATTEMPTS: TableDefinition<&str, &[u8]> = TableDefinition::new("attempts");

/// The names in the data folder.
pub(super) const NAME: &str = "spindown.redb";
/// See [`NAME`].
pub(super) const LOCK: &str = "spindown.lock";

/// Why work on the database ended early.
pub(super) enum Fault {
    /// The request was refused, the database is fine.
    Refused(Error),
    /// The database failed.
    Storage(redb::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// redb has an error type per operation; all of them mean the same here.
macro_rules! storage_faults {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Storage(error.into())
            }
        })*
    };
}
storage_faults!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    redb::DatabaseError
);

/// The database in its file.
pub(super) struct DataFile {
    path: PathBuf,
    /// `None` after an error, until the next use.
    database: RwLock<Option<Database>>,
    _lock: fs::File,
}

impl DataFile {
    /// Opens the file below `folder`, making both if need be.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let failed = |what: &str, error: io::Error| {
            Error::unavailable(format!("the data folder {} cannot be {what}: {error}", folder.display()))
                .caused_by(error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed("made", e))?;
        let lock = lock(folder)?;
        let path = folder.join(NAME);
        make_private(&path).map_err(|e| failed("written to", e))?;
        let database = open(&path)?;
        // The file's name is as safe as what it holds.
        fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed("written to", e))?;
        Ok(Self { path, database: RwLock::new(Some(database)), _lock: lock })
    }

    /// Works on the database.
    pub(super) fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T> {
        let result = self.attached(work)?;
        result.map_err(|fault| match fault {
            Fault::Refused(error) => error,
            Fault::Storage(error) => {
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
                unusable(error)
            }
        })
    }

    /// Works on the database, opened again if an error closed it.
    fn attached<T>(&self, work: impl FnOnce(&Database) -> T) -> Result<T> {
        loop {
            if let Some(database) = self.database.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                return Ok(work(database));
            }
            let mut closed = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if closed.is_none() {
                *closed = Some(open(&self.path)?);
            }
        }
    }
}

/// Changes the file in a way that matters to nobody, to find out whether it can be.
pub(super) fn probe(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    let probes = meta.get("probes")?.map_or(0, |n| n.value());
    meta.insert("probes", probes.wrapping_add(1))?;
    Ok(())
}

/// Takes the folder for this process: its lock goes with it, however it ends.
fn lock(folder: &Path) -> Result<fs::File> {
    let path = folder.join(LOCK);
    let failed = |e: io::Error| Error::unavailable(format!("{} cannot be locked: {e}", path.display())).caused_by(e);
    let mut options = OpenOptions::new();
    let mut lock =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            // Only a hint for people: the lock is what counts.
            let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
            Ok(lock)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            Err(Error::conflict(format!(
                "the data folder {} is in use by another server (process {holder}): stop that one, or give this one a \
                 folder of its own",
                folder.display()
            )))
        }
        Err(fs::TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Sees to it that the file exists and is nobody else's to read.
fn make_private(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    // A server that was killed while it made the file left zeroes: the first bytes are written last.
    let mut start = [0; 8];
    if file.metadata()?.len() > 0 && (file.read_exact(&mut start).is_err() || start == [0; 8]) {
        file.set_len(0)?;
    }
    Ok(())
}

/// What is said of a fault outside of [`DataFile::work`].
pub(super) fn translated(fault: Fault) -> Error {
    match fault {
        Fault::Refused(error) => error,
        Fault::Storage(error) => unusable(error),
    }
}

/// What is said when the database fails.
pub(super) fn unusable(error: redb::Error) -> Error {
    match &error {
        redb::Error::Io(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Error::unavailable("the store's disk is full").caused_by(error)
        }
        redb::Error::Corrupted(_) => {
            Error::new(Kind::Internal, "the store's file is damaged: move it away and restore a backup")
                .caused_by(error)
        }
        _ => Error::unavailable("the store cannot use its file").caused_by(error),
    }
}
