//! A store in memory that fails, hangs and holds calls up when told to. It keeps the contract of the real ones (the same
//! suite runs over it), takes no time and uses no threads, so that what happens over it happens the same way every time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use spindown::{
    model::{Activity, Claim, Container, ContainerId, Error, HostName, Result},
    store::{
        ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store,
        backup::{AttemptKey, BackupStore, Contents, Unreadable},
    },
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// How long a call that is held up waits, of tokio's time.
const DEADLINE: Duration = Duration::from_secs(2);

/// The calls of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    Ping,
    Containers,
    Container,
    Put,
    Remove,
    Activities,
    Activity,
    Merge,
    Claim,
    Claims,
    Release,
    Begin,
    Abandon,
    Export,
    Import,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done.
    Before,
    /// It was done, and the answer got lost.
    After,
}

#[derive(Default)]
struct Data {
    containers: BTreeMap<ContainerId, Container>,
    activities: BTreeMap<ContainerId, Activity>,
    claims: BTreeMap<(HostName, Claim), ContainerId>,
    attempts: BTreeMap<AttemptKey, Attempt>,
    faults: HashMap<Access, VecDeque<Fault>>,
    counts: HashMap<Access, usize>,
}

#[derive(Default)]
struct Gate {
    down: bool,
    hanging: bool,
    held: BTreeSet<Access>,
    exclusive: bool,
}

/// The store. Its clones show the same data.
#[derive(Clone, Default)]
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    gate: Arc<watch::Sender<Gate>>,
}

impl MemoryStore {
    /// One server has it for itself, as a file on its disk.
    pub fn make_exclusive(&self) {
        self.gate.send_modify(|gate| gate.exclusive = true);
    }

    /// Every call fails.
    pub fn go_down(&self) {
        self.gate.send_modify(|gate| gate.down = true);
    }

    /// Every call waits for its deadline.
    pub fn hang(&self) {
        self.gate.send_modify(|gate| gate.hanging = true);
    }

    /// It answers again.
    pub fn come_back(&self) {
        self.gate.send_modify(|gate| (gate.down, gate.hanging) = (false, false));
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        let gate = self.gate.borrow();
        !gate.down && !gate.hanging
    }

    /// Calls of this kind wait until they are released.
    pub fn hold(&self, access: Access) {
        self.gate.send_modify(|gate| _ = gate.held.insert(access));
    }

    /// Lets calls of this kind go on.
    pub fn release_held(&self, access: Access) {
        self.gate.send_modify(|gate| _ = gate.held.remove(&access));
    }

    /// Lets the next call of this kind fail; several wait in line.
    pub fn fail_next(&self, access: Access, fault: Fault) {
        self.data().faults.entry(access).or_default().push_back(fault);
    }

    /// Forgets the failures that were arranged and have not happened.
    pub fn forgive(&self) {
        self.data().faults.clear();
    }

    /// How often a call of this kind was made.
    pub fn count(&self, access: Access) -> usize {
        self.data().counts.get(&access).copied().unwrap_or_default()
    }

    /// Loses all that was kept.
    pub fn wipe(&self) {
        *self.data() = Data::default();
    }

    /// Who holds what.
    pub fn held_claims(&self) -> Vec<(Claim, ContainerId)> {
        self.data().claims.iter().map(|((_, claim), holder)| (*claim, holder.clone())).collect()
    }

    /// The records of containers.
    pub fn records(&self) -> Vec<Container> {
        self.data().containers.values().cloned().collect()
    }

    /// Of which containers there is a record.
    pub fn recorded(&self) -> Vec<ContainerId> {
        self.data().containers.keys().cloned().collect()
    }

    /// Of which containers there is an activity.
    pub fn remembered(&self) -> Vec<ContainerId> {
        self.data().activities.keys().cloned().collect()
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    async fn call<T>(&self, access: Access, work: impl FnOnce(&mut Data) -> Result<T> + Send) -> Result<T> {
        let away = || Error::unavailable("the store does not answer");
        *self.data().counts.entry(access).or_default() += 1;
        let mut gate = self.gate.subscribe();
        let open = gate.wait_for(|gate| !gate.hanging && !gate.held.contains(&access));
        let down = match tokio::time::timeout(DEADLINE, open).await {
            Ok(gate) => gate.unwrap().down,
            Err(_) => true,
        };
        let mut data = self.data();
        if down {
            return Err(away());
        }
        match data.faults.get_mut(&access).and_then(VecDeque::pop_front) {
            Some(Fault::Before) => Err(away()),
            Some(Fault::After) => work(&mut data).and(Err(away())),
            None => work(&mut data),
        }
    }
}

#[async_trait]
impl ContainerStore for MemoryStore {
    async fn containers(&self) -> Result<Vec<Container>> {
        self.call(Access::Containers, |data| Ok(data.containers.values().cloned().collect())).await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        self.call(Access::Container, |data| Ok(data.containers.get(id).cloned())).await
    }

    async fn put_container(&self, container: &Container) -> Result<u64> {
        self.call(Access::Put, |data| {
            let known = data.containers.get(&container.id).map_or(0, |known| known.version);
            if known != container.version {
                return Err(Error::conflict("written by somebody else meanwhile"));
            }
            let version = known + 1;
            data.containers.insert(container.id.clone(), Container { version, ..container.clone() });
            Ok(version)
        })
        .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.call(Access::Remove, |data| {
            data.containers.remove(id);
            data.activities.remove(id);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl ActivityStore for MemoryStore {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        self.call(Access::Activities, |data| Ok(data.activities.iter().map(|(id, a)| (id.clone(), *a)).collect())).await
    }

    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        self.call(Access::Activity, |data| Ok(data.activities.get(id).copied())).await
    }

    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        self.call(Access::Merge, |data| {
            for (id, new) in activities {
                let merged = data.activities.get(id).map_or(*new, |known| known.merge(*new));
                data.activities.insert(id.clone(), merged);
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl ClaimStore for MemoryStore {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        self.call(Access::Claim, |data| {
            let taken = |claim: &&Claim| data.claims.get(&(host.clone(), **claim)).is_some_and(|by| by != holder);
            if let Some(taken) = claims.iter().find(taken) {
                return Ok(Some(*taken));
            }
            data.claims.extend(claims.iter().map(|claim| ((host.clone(), *claim), holder.clone())));
            Ok(None)
        })
        .await
    }

    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        self.call(Access::Claims, |data| {
            let here = data.claims.iter().filter(|((on, _), _)| on == host);
            Ok(here.map(|((_, claim), holder)| (*claim, holder.clone())).collect())
        })
        .await
    }

    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        self.call(Access::Release, |data| {
            data.claims.retain(|(on, _), by| on != host || by != holder);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl AttemptStore for MemoryStore {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>> {
        self.call(Access::Begin, |data| {
            if let Some(first) = data.attempts.get(&AttemptKey::of(key)).filter(|first| first.at >= valid_from) {
                return Ok(Some(first.clone()));
            }
            data.attempts.insert(AttemptKey::of(key), attempt.clone());
            Ok(None)
        })
        .await
    }

    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        self.call(Access::Abandon, |data| {
            let key = AttemptKey::of(key);
            if data.attempts.get(&key).is_some_and(|attempt| attempt.id == *id) {
                data.attempts.remove(&key);
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<()> {
        self.call(Access::Ping, |_| Ok(())).await
    }

    fn is_shared(&self) -> bool {
        !self.gate.borrow().exclusive
    }
}

#[async_trait]
impl BackupStore for MemoryStore {
    async fn export(&self) -> Result<Contents> {
        self.call(Access::Export, |data| {
            Ok(Contents {
                containers: data.containers.values().cloned().collect(),
                activities: data.activities.iter().map(|(id, a)| (id.clone(), *a)).collect(),
                claims: data.claims.iter().map(|((on, claim), by)| (on.clone(), *claim, by.clone())).collect(),
                attempts: data.attempts.iter().map(|(key, a)| (key.clone(), a.clone())).collect(),
            })
        })
        .await
    }

    async fn import(&self, contents: &Contents, replace: bool) -> Result<()> {
        self.call(Access::Import, |data| {
            let filled = [data.containers.len(), data.activities.len(), data.claims.len(), data.attempts.len()];
            if !replace && filled.iter().any(|n| *n > 0) {
                return Err(Error::conflict("the store is not empty: use --replace"));
            }
            data.containers = contents.containers.iter().map(|c| (c.id.clone(), c.clone())).collect();
            data.activities = contents.activities.iter().cloned().collect();
            let claims = contents.claims.iter().cloned();
            data.claims = claims.map(|(host, claim, by)| ((host, claim), by)).collect();
            data.attempts = contents.attempts.iter().cloned().collect();
            Ok(())
        })
        .await
    }

    /// What is here was never written down.
    async fn unreadable(&self) -> Result<Vec<Unreadable>> {
        Ok(Vec::new())
    }

    async fn take_out(&self, _: &Unreadable) -> Result<bool> {
        Ok(false)
    }
}
