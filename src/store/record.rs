//! Records: how the store writes the model down. JSON objects, each with its format version `v`, so that a later
//! Spindown can read what an earlier one wrote and an earlier one refuses what it does not understand.
//!
//! A record has types of its own: the model may change its shape without changing what lies on somebody's disk.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::{OffsetDateTime, UtcOffset, serde::rfc3339};

use super::Attempt;
use crate::model::{
    Activity, CheckIn, Claim, Container, ContainerId, EngineId, Error, Freeze, HostName, Kind, Name, Port, Protocol,
    Removal, Result, Rungs, Stop, StopOrder, StoppedBy, Timeout, VolumeName, Wake,
};

/// The version that this Spindown writes, and the newest that it reads. It rises with whatever an earlier one would take
/// for damage, or leave out as it writes the record again:
///
/// 1. as it began;
/// 2. containers have `rungs`, `kept_until` and `freezing`, and are stopped by `age`.
pub(super) const VERSION: u32 = 2;

/// What is kept as a record.
pub(super) trait Kept: Sized {
    /// What it is called in messages.
    const NOUN: &'static str;
    /// How it lies in the store.
    type Record: Serialize + DeserializeOwned;

    fn to_record(&self) -> Self::Record;
    fn from_record(record: Self::Record) -> Result<Self>;
}

#[derive(Serialize)]
struct Written<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

/// Read on its own and first: the rest of a newer record may look different.
#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// Whether a newer Spindown wrote this.
pub(super) fn is_newer(bytes: &[u8]) -> bool {
    serde_json::from_slice(bytes).is_ok_and(|head: Head| head.v > VERSION)
}

/// Writes a record.
pub(super) fn write<T: Kept>(kept: &T) -> Result<String> {
    serde_json::to_string(&Written { v: VERSION, record: kept.to_record() })
        .map_err(|e| Error::new(Kind::Internal, format!("the {} cannot be written to the store", T::NOUN)).caused_by(e))
}

/// Reads the record that lies under `key`.
pub(super) fn read<T: Kept>(key: &str, bytes: &[u8]) -> Result<T> {
    let head: Head = serde_json::from_slice(bytes).map_err(|e| damaged(T::NOUN, key).caused_by(e))?;
    match head.v {
        1..=VERSION => {}
        0 => return Err(damaged(T::NOUN, key)),
        newer => {
            return Err(Error::new(
                Kind::Internal,
                format!(
                    "the {} {key} was written by a newer Spindown (record version {newer}, this one reads up to \
                     {VERSION}): upgrade this server",
                    T::NOUN
                ),
            ));
        }
    }
    let record = serde_json::from_slice(bytes).map_err(|e| damaged(T::NOUN, key).caused_by(e))?;
    T::from_record(record).map_err(|e| damaged(T::NOUN, key).caused_by(e))
}

/// What is said of a record that cannot be read.
pub(super) fn damaged(noun: &str, key: &str) -> Error {
    Error::new(
        Kind::Internal,
        format!(
            "the {noun} {key} in the store is damaged: move its record out with `spindown set-aside FILE` (stop the server \
             first if the store is a file), or restore a backup"
        ),
    )
}

/// What is said to a writer who has not seen the newest version.
pub(super) fn stale(id: &ContainerId) -> Error {
    Error::conflict(format!("container {id} was changed by somebody else meanwhile: read it again"))
}

/// The container as it is after this write.
pub(super) fn next_version(container: &Container) -> Result<Container> {
    let version = container.version.checked_add(1).ok_or_else(|| stale(&container.id))?;
    Ok(Container { version, ..container.clone() })
}

/// The key of a claim.
pub(super) fn claim_key(claim: &Claim) -> String {
    match claim {
        Claim::Port(port) => format!("port/{port}"),
        Claim::Address(address) => format!("address/{address}"),
    }
}

/// Reads the key of a claim.
pub(super) fn read_claim(key: &str) -> Result<Claim> {
    let claim = match key.split_once('/') {
        Some(("port", port)) => port.parse().ok().map(Claim::Port),
        Some(("address", address)) => address.parse().ok().map(Claim::Address),
        _ => None,
    };
    claim.ok_or_else(|| damaged("claim", key))
}

/// Reads who holds the claim under `key`.
pub(super) fn read_holder(key: &str, holder: &str) -> Result<ContainerId> {
    ContainerId::parse(holder).map_err(|e| damaged("claim", key).caused_by(e))
}

#[derive(Serialize, Deserialize)]
pub(super) struct PortRecord {
    container: u16,
    host: u16,
    protocol: String,
}

/// An order to stop or to freeze, and with `ordered` a stop.
#[derive(Serialize, Deserialize)]
pub(super) struct StopRecord {
    by: String,
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
    #[serde(default)]
    ordered: bool,
    /// Of an order only.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    run: Option<OffsetDateTime>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    id: String,
    version: u64,
    host: String,
    engine_id: String,
    name: String,
    image: String,
    ports: Vec<PortRecord>,
    address: Option<Ipv4Addr>,
    owner: String,
    labels: BTreeMap<String, String>,
    /// Null is never.
    idle_timeout: Option<Duration>,
    /// None is `always`, as with those that were written before there was a door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wake: Option<String>,
    /// Each as text; none as with those of version 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rungs: BTreeMap<String, String>,
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    kept_until: Option<OffsetDateTime>,
    #[serde(with = "rfc3339")]
    created_at: OffsetDateTime,
    ssh_host_keys: Vec<String>,
    stopping: Option<StopRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    freezing: Option<StopRecord>,
    stopped: Option<StopRecord>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removing_volumes: Vec<String>,
}

impl Kept for Container {
    const NOUN: &'static str = "container";
    type Record = ContainerRecord;

    fn to_record(&self) -> ContainerRecord {
        let port = |p: &Port| PortRecord { container: p.container, host: p.host, protocol: p.protocol.as_str().into() };
        let stop = |by: StoppedBy, at, ordered, run: Option<_>| StopRecord {
            by: by.as_str().into(),
            at: utc(at),
            ordered,
            run: run.map(utc),
        };
        ContainerRecord {
            id: self.id.to_string(),
            version: self.version,
            host: self.host.as_str().to_owned(),
            engine_id: self.engine_id.to_string(),
            name: self.name.to_string(),
            image: self.image.clone(),
            ports: self.ports.iter().map(port).collect(),
            address: self.address,
            owner: self.owner.clone(),
            labels: self.labels.clone(),
            idle_timeout: self.idle_timeout.span(),
            wake: (self.wake != Wake::default()).then(|| self.wake.as_str().to_owned()),
            rungs: self.rungs.texts().into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            kept_until: self.kept_until.map(utc),
            created_at: utc(self.created_at),
            ssh_host_keys: self.ssh_host_keys.clone(),
            stopping: self.stopping.map(|s| stop(s.by, s.at, true, s.run)),
            freezing: self.freezing.map(|f| stop(f.by, f.at, true, f.run)),
            stopped: self.stopped.map(|s| stop(s.by, s.at, s.ordered, None)),
            removing: self.removing.is_some(),
            removing_volumes: self.removing.iter().flat_map(|r| &r.volumes).map(ToString::to_string).collect(),
        }
    }

    fn from_record(r: ContainerRecord) -> Result<Self> {
        let port =
            |p: PortRecord| Ok(Port { container: p.container, host: p.host, protocol: Protocol::parse(&p.protocol)? });
        let by = |word: &str| {
            StoppedBy::parse(word).ok_or_else(|| Error::invalid(format!("{word:?} brings no container down")))
        };
        Ok(Self {
            id: ContainerId::parse(&r.id)?,
            version: r.version,
            host: HostName::new(r.host),
            engine_id: EngineId::parse(&r.engine_id)?,
            name: Name::from_engine(&r.name),
            image: r.image,
            ports: r.ports.into_iter().map(port).collect::<Result<_>>()?,
            address: r.address,
            owner: r.owner,
            labels: r.labels,
            idle_timeout: r.idle_timeout.map_or(Timeout::Never, Timeout::After),
            wake: r.wake.map(|word| Wake::parse(&word)).transpose()?.unwrap_or_default(),
            rungs: rungs(&r.rungs)?,
            kept_until: r.kept_until,
            created_at: r.created_at,
            ssh_host_keys: r.ssh_host_keys,
            stopping: r
                .stopping
                .map(|s| Ok::<_, Error>(StopOrder { by: by(&s.by)?, at: s.at, run: s.run }))
                .transpose()?,
            freezing: r
                .freezing
                .map(|f| Ok::<_, Error>(Freeze { by: by(&f.by)?, at: f.at, run: f.run }))
                .transpose()?,
            stopped: r
                .stopped
                .map(|s| Ok::<_, Error>(Stop { by: by(&s.by)?, at: s.at, ordered: s.ordered }))
                .transpose()?,
            removing: match r.removing {
                false => None,
                true => Some(Removal {
                    volumes: r.removing_volumes.iter().map(|name| VolumeName::parse(name)).collect::<Result<_>>()?,
                }),
            },
        })
    }
}

fn rungs(texts: &BTreeMap<String, String>) -> Result<Rungs> {
    let mut rungs = Rungs::default();
    for (name, text) in texts {
        rungs.set(name, text)?;
    }
    Ok(rungs)
}

#[derive(Serialize, Deserialize)]
pub(super) struct CheckInRecord {
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
    connections: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ActivityRecord {
    #[serde(with = "rfc3339")]
    last_active_at: OffsetDateTime,
    check_in: Option<CheckInRecord>,
}

impl Kept for Activity {
    const NOUN: &'static str = "activity of";
    type Record = ActivityRecord;

    fn to_record(&self) -> ActivityRecord {
        ActivityRecord {
            last_active_at: utc(self.last_active_at),
            check_in: self.check_in.map(|c| CheckInRecord { at: utc(c.at), connections: c.connections }),
        }
    }

    fn from_record(r: ActivityRecord) -> Result<Self> {
        let check_in = r.check_in.map(|c| CheckIn { at: c.at, connections: c.connections });
        Ok(Self { last_active_at: r.last_active_at, check_in })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AttemptRecord {
    id: String,
    digest: String,
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
}

impl Kept for Attempt {
    const NOUN: &'static str = "attempt";
    type Record = AttemptRecord;

    fn to_record(&self) -> AttemptRecord {
        AttemptRecord { id: self.id.to_string(), digest: self.digest.clone(), at: utc(self.at) }
    }

    fn from_record(r: AttemptRecord) -> Result<Self> {
        Ok(Self { id: ContainerId::parse(&r.id)?, digest: r.digest, at: r.at })
    }
}

/// RFC 3339 knows no offsets with seconds in them: everything is written in UTC.
fn utc(at: OffsetDateTime) -> OffsetDateTime {
    at.to_offset(UtcOffset::UTC)
}

#[cfg(test)]
mod tests;
