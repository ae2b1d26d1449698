//! All that the file holds, read in one snapshot and written in one transaction; and a look at it that changes nothing.

use std::{fs, io, path::Path};

use async_trait::async_trait;
use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::{
    Embedded,
    file::{self, ACTIVITY, ATTEMPTS, CLAIMS, CONTAINERS, Fault},
    format,
};
use crate::{
    model::{ContainerId, Error, HostName, Kind, Result},
    store::{
        backup::{AttemptKey, BackupStore, Contents, Table, Unreadable, not_empty},
        record,
    },
};

/// A table of records.
type Records = TableDefinition<'static, &'static str, &'static [u8]>;

/// All of them.
const RECORDS: [(Table, Records); 3] =
    [(Table::Containers, CONTAINERS), (Table::Activity, ACTIVITY), (Table::Attempts, ATTEMPTS)];

/// What a look at a file showed.
#[derive(Debug)]
pub struct Seen {
    /// How many containers there are records of.
    pub containers: u64,
    /// Records that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl Embedded {
    /// Looks into the file below `folder`, which nobody has open, and changes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no file, `Conflict` if a server has it, `Unavailable` if it was not closed in order,
    /// `Internal` if it is damaged or a newer Spindown's.
    pub fn look(folder: &Path) -> Result<Seen> {
        let path = folder.join(file::NAME);
        if !path.exists() {
            return Err(Error::not_found(format!("there is no store below {} yet", folder.display())));
        }
        let _lock = match fs::File::open(folder.join(file::LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Err(fs::TryLockError::WouldBlock) => return Err(Error::conflict("a server has the store open")),
                _ => Some(lock),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::unavailable(format!("{}: {error}", path.display())).caused_by(error)),
        };
        format::caught(&path, || {
            let database = redb::Database::builder().open_read_only(&path).map_err(|error| match error {
                redb::DatabaseError::RepairAborted => {
                    Error::unavailable("the store was not closed in order; the next start mends that").caused_by(error)
                }
                other => format::refused(&path, other),
            })?;
            let look = || -> Result<Seen, Fault> {
                let transaction = database.begin_read()?;
                format::check_format(&path, format::format(&transaction)?)?;
                let containers = transaction.open_table(CONTAINERS)?.len()?;
                Ok(Seen { containers, unreadable: unreadable(&transaction)? })
            };
            look().map_err(file::translated)
        })
    }
}

/// All of it. A record that cannot be read is an error with its name.
pub(super) fn export(transaction: &ReadTransaction) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    for row in transaction.open_table(CONTAINERS)?.iter()? {
        let (key, bytes) = row?;
        contents.containers.push(record::read(key.value(), bytes.value())?);
    }
    for row in transaction.open_table(ACTIVITY)?.iter()? {
        let (key, bytes) = row?;
        let activity = record::read(key.value(), bytes.value())?;
        let id = ContainerId::parse(key.value()).map_err(|_| record::damaged("activity of", key.value()))?;
        contents.activities.push((id, activity));
    }
    for row in transaction.open_table(CLAIMS)?.iter()? {
        let (key, holder) = row?;
        let (host, claim) = key.value();
        let holder = record::read_holder(claim, holder.value())?;
        contents.claims.push((HostName::new(host), record::read_claim(claim)?, holder));
    }
    for row in transaction.open_table(ATTEMPTS)?.iter()? {
        let (key, bytes) = row?;
        let attempt = record::read(key.value(), bytes.value())?;
        let key = AttemptKey::parse(key.value()).map_err(|_| record::damaged("attempt", key.value()))?;
        contents.attempts.push((key, attempt));
    }
    Ok(contents)
}

fn unreadable(transaction: &ReadTransaction) -> Result<Vec<Unreadable>, Fault> {
    let mut found = Vec::new();
    for (of, table) in RECORDS {
        for row in transaction.open_table(table)?.iter()? {
            let (key, bytes) = row?;
            found.extend(of.fault(key.value(), bytes.value()));
        }
    }
    Ok(found)
}

/// The records as they lie in the file, made before anything is changed.
struct Rows {
    records: Vec<(Records, String, String)>,
    claims: Vec<(String, String, String)>,
}

impl Rows {
    fn of(contents: &Contents) -> Result<Self> {
        let mut records = Vec::with_capacity(contents.len());
        for container in &contents.containers {
            records.push((CONTAINERS, container.id.to_string(), record::write(container)?));
        }
        for (id, activity) in &contents.activities {
            records.push((ACTIVITY, id.to_string(), record::write(activity)?));
        }
        for (key, attempt) in &contents.attempts {
            records.push((ATTEMPTS, key.as_str().to_owned(), record::write(attempt)?));
        }
        let claims = contents.claims.iter();
        let claims = claims.map(|(host, claim, id)| (host.as_str().into(), record::claim_key(claim), id.to_string()));
        Ok(Self { records, claims: claims.collect() })
    }

    fn replace_all(&self, transaction: &WriteTransaction, replace: bool) -> Result<(), Fault> {
        let mut claims = transaction.open_table(CLAIMS)?;
        let mut is_empty = claims.is_empty()?;
        for (_, table) in RECORDS {
            is_empty &= transaction.open_table(table)?.is_empty()?;
        }
        if !is_empty && !replace {
            return Err(not_empty().into());
        }
        claims.retain(|_, _| false)?;
        for (_, table) in RECORDS {
            transaction.open_table(table)?.retain(|_, _| false)?;
        }
        for (table, key, record) in &self.records {
            transaction.open_table(*table)?.insert(key.as_str(), record.as_bytes())?;
        }
        for (host, claim, holder) in &self.claims {
            claims.insert((host.as_str(), claim.as_str()), holder.as_str())?;
        }
        Ok(())
    }
}

#[async_trait]
impl BackupStore for Embedded {
    async fn export(&self) -> Result<Contents> {
        self.read(export).await
    }

    async fn import(&self, contents: &Contents, replace: bool) -> Result<()> {
        let rows = Rows::of(contents)?;
        self.writer.write(move |transaction| rows.replace_all(transaction, replace)).await
    }

    async fn unreadable(&self) -> Result<Vec<Unreadable>> {
        self.read(unreadable).await
    }

    async fn take_out(&self, record: &Unreadable) -> Result<bool> {
        let record = record.clone();
        self.writer
            .write(move |transaction| {
                let Some((_, table)) = RECORDS.into_iter().find(|(of, _)| *of == record.of) else {
                    return Err(Error::new(Kind::Internal, "there is no such table").into());
                };
                let mut table = transaction.open_table(table)?;
                let same = table.get(record.key.as_str())?.is_some_and(|bytes| bytes.value() == record.bytes);
                if same {
                    table.remove(record.key.as_str())?;
                }
                Ok(same)
            })
            .await
    }
}
