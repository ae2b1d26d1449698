//! Containers: what is told of one, and a file for each thing that is done to one.

mod bulk;
mod create;
mod extend;
mod files;
mod freeze;
mod logs;
mod remove;
mod reset;
mod start;
mod stop;
mod update;

use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::{Spindown, entry::Entry};
use crate::model::{Container, ContainerId, DiskUse, Ladder, Result, Status, Volumes};

pub use bulk::{Action, Outcome};
pub use create::{IdempotencyKey, NewContainer};
pub(super) use files::Account;
pub use files::AuthorizedKeys;
pub use logs::Output;
pub(super) use logs::Readers;
pub use update::Change;

pub(super) use stop::count_stop;

/// Where the last container was placed.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    port: Option<u16>,
    address: Option<Ipv4Addr>,
}

/// Everything that is told of a container.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is kept of it.
    pub container: Container,
    /// What it is doing.
    pub status: Status,
    /// How it ended, while it is stopped.
    pub exit_code: Option<i64>,
    /// The connections it reported last; 0 while it is not running.
    pub connections: u64,
    /// When it was last in use.
    pub last_active_at: Option<OffsetDateTime>,
    /// The ladder that holds for it.
    pub ladder: Ladder,
    /// When it would be stopped if nothing more happens.
    pub stops_at: Option<OffsetDateTime>,
    /// What it took of the disk when it was measured last; nothing until then.
    pub disk: Option<DiskUse>,
    /// The volumes mounted in it, as the engine shows them.
    pub volumes: Volumes,
}

/// Which containers a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those doing this.
    pub status: Option<Status>,
    /// Only those of this image.
    pub image: Option<String>,
    /// Only those with all of these labels; `None` asks for any value.
    pub labels: Vec<(String, Option<String>)>,
    /// Only those that stand behind the one so named.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let container = &entry.container;
        let labelled = |(key, value): &(String, Option<String>)| {
            container.labels.get(key).is_some_and(|v| value.as_ref().is_none_or(|wanted| wanted == v))
        };
        self.status.is_none_or(|s| s == entry.status())
            && self.image.as_ref().is_none_or(|i| same_image(i, &container.image))
            && self.labels.iter().all(labelled)
    }
}

/// Whether two names mean one image: the tag `latest` may be left out.
fn same_image(one: &str, other: &str) -> bool {
    one.strip_suffix(":latest").unwrap_or(one) == other.strip_suffix(":latest").unwrap_or(other)
}

impl Spindown {
    /// The container that the caller means.
    pub(super) fn find(&self, name: &str) -> Result<ContainerId> {
        self.snapshot.find(name).map_err(|error| self.know().err().unwrap_or(error))
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound` if none is called `name`, `Conflict` if several could be meant.
    pub fn find_container(&self, name: &str) -> Result<Report> {
        let id = self.find(name)?;
        Ok(self.report(&self.snapshot.require(&id)?))
    }

    /// The containers that `filter` admits, in the order of their creation.
    ///
    /// # Errors
    /// `NotFound` if there is no container that `filter.after` names; `Unavailable` before the engine has told which there
    /// are.
    pub fn list_containers(&self, filter: &Filter) -> Result<Vec<Report>> {
        self.know()?;
        let place = |entry: &Entry| (entry.container.created_at, entry.container.id.clone());
        let after = match &filter.after {
            Some(name) => Some(place(&self.snapshot.require(&self.find(name)?)?)),
            None => None,
        };
        let snapshot = self.snapshot.read();
        let mut entries: Vec<_> = snapshot.entries().filter(|e| filter.admits(e)).map(|e| (place(e), e)).collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let entries = entries.into_iter().filter(|(place, _)| after.as_ref().is_none_or(|after| place > after));
        Ok(entries.take(filter.limit.unwrap_or(usize::MAX)).map(|(_, entry)| self.report(entry)).collect())
    }

    /// What is told of a container now.
    pub(super) fn report(&self, entry: &Entry) -> Report {
        let now = self.clock.now();
        let status = entry.status();
        let up = matches!(status, Status::Running | Status::Frozen | Status::Stopping);
        let judgement = self.judge(entry, now);
        Report {
            container: entry.container.clone(),
            status,
            exit_code: entry.seen.as_ref().filter(|_| !up).and_then(|s| s.exit_code),
            connections: entry.connections.filter(|_| up).unwrap_or(0),
            last_active_at: entry.last_active_at(),
            stops_at: judgement.due.map(|due| now.date_of(due.at)),
            ladder: entry.ladder.clone(),
            disk: self.sizes.of(&entry.container.id),
            volumes: entry.seen.as_ref().map(|seen| seen.volumes.clone()).unwrap_or_default(),
        }
    }
}
