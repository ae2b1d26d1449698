//! The container: what Spindown keeps of it, and how its status follows from that and from what the engine shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{
    Claim, ContainerId, EngineId, EngineState, HostName, Name, Observation, Port, Rungs, Timeout, VolumeName, Wake,
    birth,
};

/// What a container is doing, in Spindown's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Up, with its ports open.
    Running,
    /// Up, its processes halted.
    Frozen,
    /// Told to stop, not down yet.
    Stopping,
    /// Down, its file system kept.
    Stopped,
    /// Known to Spindown, unknown to the engine: removed behind our back.
    Missing,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Running, Self::Frozen, Self::Stopping, Self::Stopped, Self::Missing];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
        }
    }
}

/// Who or what brought a container down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoppedBy {
    /// The idle policy.
    Idle,
    /// It was up for as long as it may be.
    Age,
    /// A person, through Spindown or behind its back.
    User,
    /// It ended by itself.
    Own,
    /// It went down with the engine or the machine.
    Host,
}

impl StoppedBy {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Age, Self::User, Self::Own, Self::Host];

    /// Whether that was for a person's want of it, or lack of one, as Spindown sees it: it comes back for whoever connects.
    pub fn is_policy(self) -> bool {
        matches!(self, Self::Idle | Self::Age)
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Age => "age",
            Self::User => "user",
            Self::Own => "self",
            Self::Host => "host",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == text)
    }
}

/// An order to stop that has not been seen done yet. Kept in the store, so that a restart does not forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOrder {
    /// `Idle`, `Age` or `User`.
    pub by: StoppedBy,
    /// When it was given.
    pub at: OffsetDateTime,
    /// When the run began that it is to end, as the engine has it. An order does not outlive its run: whoever started
    /// the container since has overruled it.
    pub run: Option<OffsetDateTime>,
}

/// An order to freeze a container. Kept in the store, so that it is known of one that is frozen whose deed that was: what
/// somebody else froze is left alone. Written before it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// `Idle` or `User`.
    pub by: StoppedBy,
    /// When it was given.
    pub at: OffsetDateTime,
    /// When the run began that it is for, as the engine has it.
    pub run: Option<OffsetDateTime>,
}

/// An order to remove a container. Kept in the store, so that whatever cuts a removal off does not leave half of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The volumes that go with it, unless others use them. Once it is gone the engine cannot tell them any more.
    pub volumes: BTreeSet<VolumeName>,
}

/// How a container came down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Who did it.
    pub by: StoppedBy,
    /// When it was down.
    pub at: OffsetDateTime,
    /// Whether Spindown had ordered it; otherwise `by` is inferred.
    pub ordered: bool,
}

/// What Spindown keeps of one container beside what the engine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id for life.
    pub id: ContainerId,
    /// Rises with each write; a write over a newer version is refused.
    pub version: u64,
    /// The host it is on.
    pub host: HostName,
    /// The engine's id there.
    pub engine_id: EngineId,
    /// Its name when last seen.
    pub name: Name,
    /// The image it was made from.
    pub image: String,
    /// Its published ports, its for life.
    pub ports: Vec<Port>,
    /// Its address on Spindown's network, its for life.
    pub address: Option<Ipv4Addr>,
    /// Whom it belongs to.
    pub owner: String,
    /// The labels its users gave it.
    pub labels: BTreeMap<String, String>,
    /// After how much idleness it is stopped.
    pub idle_timeout: Timeout,
    /// What else is set of its ladder.
    pub rungs: Rungs,
    /// For what it wakes.
    pub wake: Wake,
    /// Until when it goes down no rung, because somebody asked for that.
    pub kept_until: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Fingerprints of its SSH host keys, once they are known.
    pub ssh_host_keys: Vec<String>,
    /// An order to stop that is not done yet.
    pub stopping: Option<StopOrder>,
    /// The order to freeze it, while it is frozen, or being frozen.
    pub freezing: Option<Freeze>,
    /// How it last came down; `None` while it is up.
    pub stopped: Option<Stop>,
    /// An order to remove it that is not done yet.
    pub removing: Option<Removal>,
}

/// The status that follows from an order to stop and from what the engine shows.
pub fn status(ordered_to_stop: bool, seen: Option<EngineState>) -> Status {
    match seen {
        None => Status::Missing,
        Some(state) if ordered_to_stop && state.is_up() => Status::Stopping,
        Some(EngineState::Running) => Status::Running,
        Some(EngineState::Paused) => Status::Frozen,
        Some(EngineState::Removing) => Status::Stopping,
        Some(EngineState::Created | EngineState::Exited) => Status::Stopped,
    }
}

/// Whom a container belongs to whose owner is not known.
const DEFAULT_OWNER: &str = "admin";

impl Container {
    /// What it holds of its host for life.
    pub fn claims(&self) -> Vec<Claim> {
        let ports = self.ports.iter().map(|p| Claim::Port(p.host));
        ports.chain(self.address.map(Claim::Address)).collect()
    }

    /// The labels with which the container is born: the facts from which [`Container::adopt`] restores it.
    pub fn birth_labels(
        instance: &str,
        id: &ContainerId,
        owner: &str,
        idle_timeout: Timeout,
        wake: Wake,
        labels: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let facts = [
            (birth::MANAGED, instance.to_owned()),
            (birth::ID, id.to_string()),
            (birth::OWNER, owner.to_owned()),
            (birth::IDLE_TIMEOUT, idle_timeout.to_string()),
            (birth::WAKE, wake.as_str().to_owned()),
        ];
        let facts = facts.into_iter().map(|(key, value)| (key.to_owned(), value));
        facts.chain(labels.iter().map(|(k, v)| (format!("{}{k}", birth::LABEL_PREFIX), v.clone()))).collect()
    }

    /// The labels that the one gets on top which takes the place of the engine's container `replaced` at a reset.
    pub fn succession_labels(&self, replaced: &EngineId) -> BTreeMap<String, String> {
        let created_at = self.created_at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default();
        let facts = [
            (birth::REPLACES, replaced.to_string()),
            (birth::NAME, self.name.to_string()),
            (birth::CREATED_AT, created_at),
        ];
        facts.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// What is known of a container of which only the engine knows: its facts of birth, read from its labels.
    pub fn adopt(seen: &Observation, host: HostName, default_timeout: Timeout) -> Self {
        let labels = seen.labels.iter();
        let label = |name: &str| seen.labels.get(name).map(String::as_str);
        Self {
            id: seen.id.clone(),
            version: 0,
            host,
            engine_id: seen.engine_id.clone(),
            name: seen.name.clone(),
            image: seen.image.clone(),
            ports: seen.ports.clone(),
            address: seen.address,
            owner: label(birth::OWNER).unwrap_or(DEFAULT_OWNER).to_owned(),
            labels: labels
                .filter_map(|(k, v)| Some((k.strip_prefix(birth::LABEL_PREFIX)?.to_owned(), v.clone())))
                .collect(),
            idle_timeout: label(birth::IDLE_TIMEOUT).and_then(|t| Timeout::parse(t).ok()).unwrap_or(default_timeout),
            rungs: Rungs::of_labels(&seen.labels, birth::RUNG_PREFIX).0,
            kept_until: None,
            wake: label(birth::WAKE).and_then(|word| Wake::parse(word).ok()).unwrap_or_default(),
            created_at: label(birth::CREATED_AT)
                .and_then(|date| OffsetDateTime::parse(date, &Rfc3339).ok())
                .unwrap_or(seen.created_at),
            ssh_host_keys: Vec::new(),
            stopping: None,
            // Whose deed that was nobody knows any more. It must not be forgotten for that.
            freezing: (seen.state == EngineState::Paused).then(|| Freeze {
                by: StoppedBy::User,
                at: seen.started_at.unwrap_or(seen.created_at),
                run: seen.started_at,
            }),
            stopped: None,
            removing: None,
        }
    }
}
