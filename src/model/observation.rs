//! What the engine shows of one container at one time.

use std::{collections::BTreeMap, net::Ipv4Addr};

use time::OffsetDateTime;

use super::{ContainerId, EngineId, Name, Port, Volumes};

/// The engine's word for what a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen by the engine (`docker pause`).
    Paused,
    /// Not running (any more).
    Exited,
    /// Being removed.
    Removing,
}

impl EngineState {
    /// Whether its processes exist.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// One inspection of one container that Spindown made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Spindown's id, from the label.
    pub id: ContainerId,
    /// The engine's id.
    pub engine_id: EngineId,
    /// Its present name.
    pub name: Name,
    /// The image, as it was named at creation.
    pub image: String,
    /// What it is doing.
    pub state: EngineState,
    /// How it ended, once it did.
    pub exit_code: Option<i64>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last started.
    pub started_at: Option<OffsetDateTime>,
    /// When it last ended.
    pub finished_at: Option<OffsetDateTime>,
    /// The number of its main process, while it is up.
    pub pid: Option<u32>,
    /// Its address on Spindown's network, given at creation and kept while stopped.
    pub address: Option<Ipv4Addr>,
    /// Its published ports, given at creation and kept while stopped.
    pub ports: Vec<Port>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// The named volumes mounted in it.
    pub volumes: Volumes,
}
