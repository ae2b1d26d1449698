//! The embedded store: one file, `spindown.redb` below the data folder, for one server. What it holds and what
//! survives what is told in `docs/store.md`.
//!
//! Reads are snapshots taken on a blocking thread; writes go through `writer`. Both work on `file`. While a server has the
//! file, `share` hands out backups of it.

mod backup;
mod file;
mod format;
mod share;
mod writer;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use time::OffsetDateTime;

pub use self::backup::Seen;
use self::{
    file::{ACTIVITY, ATTEMPTS, CLAIMS, CONTAINERS, DataFile, Fault},
    share::Share,
    writer::Writer,
};
use super::{
    ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store,
    backup::{AttemptKey, Contents, Head},
    record,
};
use crate::model::{Activity, Claim, Container, ContainerId, Error, HostName, Kind, Result};

/// The store in a file.
pub struct Embedded {
    // Before the file, so that the last writes are done before it is closed.
    writer: Writer,
    /// `None` where no socket could be made.
    _share: Option<Share>,
    file: Arc<DataFile>,
}

impl Embedded {
    /// Opens the store below `folder`, making both if need be.
    ///
    /// # Errors
    /// `Conflict` if another server has it, `Internal` if a newer Spindown wrote it or it is damaged, `Unavailable` if the
    /// disk fails.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = Arc::new(DataFile::open(folder)?);
        let share = Share::start(folder, Arc::clone(&file));
        let share = share.inspect_err(|error| tracing::warn!(%error, "no backup can be made while this server serves"));
        Ok(Self { writer: Writer::start(Arc::clone(&file))?, _share: share.ok(), file })
    }

    /// Opens the store below `folder`, which must be there.
    ///
    /// # Errors
    /// `NotFound` if it is not; as for [`Embedded::open`].
    pub fn open_existing(folder: &Path) -> Result<Self> {
        if folder.join(file::NAME).exists() {
            return Self::open(folder);
        }
        Err(Error::not_found(format!(
            "there is no store below {}: run this in the folder that the server is started in, with its configuration",
            folder.display()
        )))
    }

    /// Asks the server that has the store below `folder` open for all that it holds; `head` is that of the backup.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer, `Conflict` with why it refuses.
    pub async fn ask(folder: &Path, head: &Head) -> Result<Contents> {
        let (folder, head) = (folder.to_owned(), head.clone());
        let asked = tokio::task::spawn_blocking(move || share::ask(&folder, &head));
        asked.await.map_err(|e| Error::new(Kind::Internal, "the server could not be asked").caused_by(e))?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || file.work(|database| work(&database.begin_read()?)));
        read.await.map_err(|e| Error::new(Kind::Internal, "the store could not be read").caused_by(e))?
    }
}

/// The record under `key`.
fn find<T: record::Kept>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, Fault> {
    let row = table.get(key)?;
    Ok(row.map(|bytes| record::read(key, bytes.value())).transpose()?)
}

#[async_trait]
impl ContainerStore for Embedded {
    async fn containers(&self) -> Result<Vec<Container>> {
        self.read(|transaction| {
            let mut all = Vec::new();
            for row in transaction.open_table(CONTAINERS)?.iter()? {
                let (id, bytes) = row?;
                all.push(record::read(id.value(), bytes.value())?);
            }
            Ok(all)
        })
        .await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        let id = id.clone();
        self.read(move |transaction| find(&transaction.open_table(CONTAINERS)?, id.as_str())).await
    }

    async fn put_container(&self, container: &Container) -> Result<u64> {
        let next = record::next_version(container)?;
        let (bytes, expected) = (record::write(&next)?, container.version);
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(CONTAINERS)?;
                let id = next.id.as_str();
                if find::<Container>(&table, id)?.map_or(0, |stored| stored.version) != expected {
                    return Err(record::stale(&next.id).into());
                }
                table.insert(id, bytes.as_bytes())?;
                Ok(next.version)
            })
            .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let id = id.clone();
        self.writer
            .write(move |transaction| {
                transaction.open_table(CONTAINERS)?.remove(id.as_str())?;
                transaction.open_table(ACTIVITY)?.remove(id.as_str())?;
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl ActivityStore for Embedded {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        self.read(|transaction| {
            let mut all = Vec::new();
            for row in transaction.open_table(ACTIVITY)?.iter()? {
                let (id, bytes) = row?;
                let activity = record::read(id.value(), bytes.value())?;
                let id = ContainerId::parse(id.value())
                    .map_err(|e| record::damaged("activity of", id.value()).caused_by(e))?;
                all.push((id, activity));
            }
            Ok(all)
        })
        .await
    }

    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        let id = id.clone();
        self.read(move |transaction| find(&transaction.open_table(ACTIVITY)?, id.as_str())).await
    }

    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        let mut news: BTreeMap<ContainerId, Activity> = BTreeMap::new();
        for (id, activity) in activities {
            let merged = news.get(id).map_or(*activity, |known| known.merge(*activity));
            news.insert(id.clone(), merged);
        }
        if news.is_empty() {
            return Ok(());
        }
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(ACTIVITY)?;
                let mut merged = Vec::with_capacity(news.len());
                for (id, new) in &news {
                    let known = find::<Activity>(&table, id.as_str())?;
                    merged.push((id, record::write(&known.map_or(*new, |known| known.merge(*new)))?));
                }
                for (id, bytes) in merged {
                    table.insert(id.as_str(), bytes.as_bytes())?;
                }
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl ClaimStore for Embedded {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        let (host, claims, holder) = (host.clone(), claims.to_vec(), holder.clone());
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(CLAIMS)?;
                for claim in &claims {
                    let held = table.get((host.as_str(), record::claim_key(claim).as_str()))?;
                    if held.is_some_and(|by| by.value() != holder.as_str()) {
                        return Ok(Some(*claim));
                    }
                }
                for claim in &claims {
                    table.insert((host.as_str(), record::claim_key(claim).as_str()), holder.as_str())?;
                }
                Ok(None)
            })
            .await
    }

    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        let host = host.clone();
        self.read(move |transaction| {
            let mut all = Vec::new();
            for row in transaction.open_table(CLAIMS)?.range((host.as_str(), "")..)? {
                let (key, holder) = row?;
                let (on, claim) = key.value();
                if on != host.as_str() {
                    break;
                }
                all.push((record::read_claim(claim)?, record::read_holder(claim, holder.value())?));
            }
            Ok(all)
        })
        .await
    }

    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        let (host, holder) = (host.clone(), holder.clone());
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(CLAIMS)?;
                table.retain(|(on, _), by| on != host.as_str() || by != holder.as_str())?;
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl AttemptStore for Embedded {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>> {
        let (key, bytes) = (AttemptKey::of(key), record::write(attempt)?);
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(ATTEMPTS)?;
                if let Some(valid) = find::<Attempt>(&table, key.as_str())?.filter(|a| a.at >= valid_from) {
                    return Ok(Some(valid));
                }
                // Nobody else clears away what is out of date; what cannot be read is left for people to see.
                table.retain(|key, bytes| record::read::<Attempt>(key, bytes).map_or(true, |a| a.at >= valid_from))?;
                table.insert(key.as_str(), bytes.as_bytes())?;
                Ok(None)
            })
            .await
    }

    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        let (key, id) = (AttemptKey::of(key), id.clone());
        self.writer
            .write(move |transaction| {
                let mut table = transaction.open_table(ATTEMPTS)?;
                if find::<Attempt>(&table, key.as_str())?.is_some_and(|a| a.id == id) {
                    table.remove(key.as_str())?;
                }
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Store for Embedded {
    /// Reads, and after a failed write writes too: only that tells whether the disk has room again.
    async fn ping(&self) -> Result<()> {
        if self.writer.failing() {
            self.writer.write(file::probe).await?;
        }
        self.read(|transaction| Ok(transaction.open_table(CONTAINERS).map(drop)?)).await
    }

    /// The file is locked.
    fn is_shared(&self) -> bool {
        false
    }
}
