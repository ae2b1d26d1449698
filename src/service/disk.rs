//! Disk: what each container takes, measured in the background, and the watermark below which nothing new is made.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::{Spindown, Unpoisoned};
use crate::model::{Container, ContainerId, DiskSpace, DiskUse, EngineId, Error, Kind, Moment, Result, format_bytes};

/// For how long a measurement is good. The engine walks all files of the container for one.
const FRESH: Duration = Duration::from_secs(600);
/// How many of the largest containers are told.
const LARGEST: usize = 10;
/// How many of them a refusal names.
const NAMED: usize = 3;

/// When a container was last measured, or tried to be, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Measured {
    tried: Moment,
    found: Option<DiskUse>,
}

/// What is known of the sizes of containers. It is in memory only: a measurement is soon made again.
#[derive(Default)]
pub(super) struct Sizes(Mutex<HashMap<ContainerId, Measured>>);

impl Sizes {
    /// What a container took when it was measured last.
    pub(super) fn of(&self, id: &ContainerId) -> Option<DiskUse> {
        self.0.locked().get(id)?.found
    }

    fn tried(&self, id: &ContainerId) -> Option<Moment> {
        self.0.locked().get(id).map(|m| m.tried)
    }
}

/// What is told of the disk.
#[derive(Clone, Debug)]
pub struct DiskReport {
    /// The room there is, where that can be told.
    pub space: Option<DiskSpace>,
    /// The bytes that must be free for another container.
    pub reserve: u64,
    /// How many containers there are.
    pub containers: usize,
    /// How many of them have been measured.
    pub measured: usize,
    /// The bytes that those take together.
    pub bytes: u64,
    /// The largest of them, the largest first.
    pub largest: Vec<(Container, DiskUse)>,
}

impl Spindown {
    /// The room on the disk, and what containers take of it.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer.
    pub async fn disk(&self) -> Result<DiskReport> {
        self.know()?;
        let space = self.engine.disk().await?;
        let snapshot = self.snapshot.read();
        let containers = snapshot.entries().count();
        let mut measured: Vec<_> =
            snapshot.entries().filter_map(|e| Some((&e.container, self.sizes.of(&e.container.id)?))).collect();
        measured.sort_by_key(|(container, found)| (std::cmp::Reverse(found.bytes), container.id.clone()));
        Ok(DiskReport {
            space,
            reserve: self.settings.disk_reserve,
            containers,
            measured: measured.len(),
            bytes: measured.iter().map(|(_, found)| found.bytes).sum(),
            largest: measured.into_iter().take(LARGEST).map(|(c, found)| (c.clone(), found)).collect(),
        })
    }

    /// That there is room on the disk for something new.
    ///
    /// # Errors
    /// `Exhausted` below the watermark, naming the largest containers; `Unavailable` if the engine does not answer.
    pub(super) async fn require_disk(&self) -> Result<()> {
        match self.engine.disk().await? {
            Some(space) if space.free < self.settings.disk_reserve => {
                let mut message = self.nearly_full(space);
                let largest = self.disk().await?.largest;
                let named = largest.iter().take(NAMED);
                let named: Vec<_> =
                    named.map(|(c, found)| format!("{} ({})", c.name, format_bytes(found.bytes))).collect();
                if !named.is_empty() {
                    message.push_str(&format!("; the largest containers are {}", named.join(", ")));
                }
                message.push_str(": DELETE some, or lower limits.disk_reserve");
                Err(Error::new(Kind::Exhausted, message))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with the disk, if anything. An engine that does not answer is told of elsewhere.
    pub(super) async fn disk_problem(&self) -> Option<String> {
        let space = self.engine.disk().await.ok().flatten()?;
        let full = space.free < self.settings.disk_reserve;
        full.then(|| format!("{}: no container is made until there is room", self.nearly_full(space)))
    }

    fn nearly_full(&self, space: DiskSpace) -> String {
        let (free, reserve) = (format_bytes(space.free), format_bytes(self.settings.disk_reserve));
        format!("the disk is nearly full: {free} are free of the {reserve} that must be")
    }

    /// Measures one container whose size is not known or is old, and answers how long that took; nothing if none is due.
    pub async fn measure_next(&self) -> Option<Duration> {
        if !self.watch.locked().engine_up {
            return None;
        }
        let before = self.clock.now();
        let (id, engine_id) = self.next_to_measure(before.moment)?;
        let found = match self.engine.disk_use(&engine_id).await {
            Ok(bytes) => Some(DiskUse { bytes, at: before }),
            Err(error) => {
                tracing::debug!(container = %id, error = error.message(), source = ?error, "a container is not measured");
                self.sizes.of(&id)
            }
        };
        self.sizes.0.locked().insert(id, Measured { tried: before.moment, found });
        Some(self.clock.now().moment.since(before.moment))
    }

    /// The container that has waited for longest; first those that were never measured. What is down writes nothing.
    fn next_to_measure(&self, now: Moment) -> Option<(ContainerId, EngineId)> {
        let snapshot = self.snapshot.read();
        self.sizes.0.locked().retain(|id, _| snapshot.entry(id).is_some());
        let due = snapshot.entries().filter_map(|entry| {
            let seen = entry.seen.as_ref()?;
            let tried = self.sizes.tried(&entry.container.id);
            let known = self.sizes.of(&entry.container.id);
            let still = !seen.state.is_up() && known.is_some_and(|k| seen.finished_at.is_some_and(|end| end < k.at.at));
            let due = tried.is_none_or(|tried| now.since(tried) >= FRESH && !still);
            due.then_some((tried, &entry.container))
        });
        let (_, container) = due.min_by_key(|(tried, _)| *tried)?;
        Some((container.id.clone(), container.engine_id.clone()))
    }
}
