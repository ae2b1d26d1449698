//! Eyes that see what a test says there is to see in containers.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use spindown::{
    clock::{Clock, TestClock},
    model::{Connection, ContainerId, Error, Look, Moment, Result, Target, Terminal},
    sight::Sight,
};

/// What goes on in one container.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Its connections: port, other end, when data moved last, unread bytes, whether logged in.
    pub connections: HashMap<(u16, SocketAddr), (Moment, u32, bool)>,
    /// When something was typed last, if it has a terminal.
    pub typed: Option<Moment>,
    /// For how long processors have worked for it, up to `since`, and in thousandths of one from then on.
    processor: Option<(Duration, Moment, u32)>,
}

/// What comes of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gaze {
    /// What there is to see.
    #[default]
    True,
    /// An error.
    Fails,
    /// That there is nothing to see.
    Nothing,
    /// What there was to see when this began.
    Old,
}

/// The eyes.
pub struct Eyes {
    clock: Arc<TestClock>,
    inside: Mutex<HashMap<ContainerId, Inside>>,
    /// Whether they are open at all.
    open: Mutex<bool>,
    /// How they see, and what there was when they began to.
    gaze: Mutex<(Gaze, HashMap<ContainerId, Inside>)>,
    told: Mutex<Vec<(ContainerId, String)>>,
    /// Those that can be looked into; all if nothing is said.
    only: Mutex<Option<HashSet<ContainerId>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Eyes {
    /// Eyes that are closed.
    pub fn new(clock: Arc<TestClock>) -> Self {
        let (inside, gaze) = (Mutex::default(), Mutex::default());
        Self { clock, inside, open: Mutex::default(), gaze, told: Mutex::default(), only: Mutex::default() }
    }

    /// From now on there is something to see.
    pub fn open(&self) {
        *locked(&self.open) = true;
    }

    /// From now on there is something to see in these alone.
    pub fn open_for(&self, only: impl IntoIterator<Item = ContainerId>) {
        *locked(&self.only) = Some(only.into_iter().collect());
        self.open();
    }

    /// From now on each look fails, or does no more.
    pub fn fail(&self, fails: bool) {
        self.set_gaze(if fails { Gaze::Fails } else { Gaze::True });
    }

    /// From now on this comes of each look.
    pub fn set_gaze(&self, gaze: Gaze) {
        let now = locked(&self.inside).clone();
        *locked(&self.gaze) = (gaze, now);
    }

    pub fn now(&self) -> Moment {
        self.clock.now().moment
    }

    /// Changes what goes on in a container.
    pub fn inside<T>(&self, id: &ContainerId, change: impl FnOnce(&mut Inside, Moment) -> T) -> T {
        change(locked(&self.inside).entry(id.clone()).or_default(), self.now())
    }

    /// Data moves on a connection, which is made if it is not there.
    pub fn moves(&self, id: &ContainerId, port: u16, client: SocketAddr) {
        self.inside(id, |inside, now| inside.connections.entry((port, client)).or_insert((now, 0, false)).0 = now);
    }

    /// It is up no more.
    pub fn goes_down(&self, id: &ContainerId) {
        locked(&self.inside).remove(id);
    }

    /// It reads all that has arrived.
    pub fn reads(&self, id: &ContainerId) {
        self.inside(id, |inside, _| inside.connections.values_mut().for_each(|(_, unread, _)| *unread = 0));
    }

    /// The connection ends.
    pub fn ends(&self, id: &ContainerId, port: u16, client: SocketAddr) {
        self.inside(id, |inside, _| inside.connections.remove(&(port, client)));
    }

    /// Bytes arrive that nobody reads.
    pub fn arrives(&self, id: &ContainerId, port: u16, client: SocketAddr) {
        self.inside(id, |inside, now| {
            let connection = inside.connections.entry((port, client)).or_insert((now, 0, false));
            (connection.0, connection.1) = (now, connection.1 + 1);
        });
    }

    /// From now on processors work for it, in thousandths of one.
    pub fn works(&self, id: &ContainerId, share: u32) {
        self.inside(id, |inside, now| inside.processor = Some((inside.processor(now), now, share)));
    }

    /// What has been written to terminals.
    pub fn told(&self) -> Vec<(ContainerId, String)> {
        locked(&self.told).clone()
    }
}

impl Inside {
    fn processor(&self, now: Moment) -> Duration {
        let Some((until, since, share)) = self.processor else { return Duration::ZERO };
        until + now.since(since) * share / 1_000
    }

    fn look(&self, now: Moment, logins: bool) -> Look {
        let connections = self.connections.iter().map(|((port, client), (moved, unread, login))| Connection {
            port: *port,
            client: *client,
            quiet: now.since(*moved),
            unread: *unread,
            login: logins && *login,
        });
        Look {
            connections: connections.collect(),
            terminals: self.typed.iter().map(|typed| Terminal { number: 0, quiet: now.since(*typed) }).collect(),
            processor: Some(self.processor(now)),
            disk: Some(0),
        }
    }
}

#[async_trait]
impl Sight for Eyes {
    fn sees(&self) -> bool {
        *locked(&self.open)
    }

    async fn look(&self, targets: Vec<Target>) -> Vec<(ContainerId, Result<Look>)> {
        let (now, inside, gaze) = (self.now(), locked(&self.inside), locked(&self.gaze));
        let look = |target: Target| {
            let of = |inside: &HashMap<ContainerId, Inside>| inside.get(&target.id).cloned().unwrap_or_default();
            let seen = match gaze.0 {
                Gaze::True => Ok(of(&inside)),
                Gaze::Fails => Err(Error::unavailable("it is dark")),
                Gaze::Nothing => Ok(Inside::default()),
                Gaze::Old => Ok(of(&gaze.1)),
            };
            (target.id, seen.map(|inside| inside.look(now, target.logins)))
        };
        let only = locked(&self.only);
        let seen = |target: &Target| only.as_ref().is_none_or(|only| only.contains(&target.id));
        targets.into_iter().filter(seen).map(look).collect()
    }

    async fn tell(&self, target: &Target, line: &str) -> Result<usize> {
        locked(&self.told).push((target.id.clone(), line.to_owned()));
        // It comes to whoever is connected.
        self.inside(&target.id, |inside, now| {
            inside.connections.values_mut().for_each(|connection| connection.0 = now)
        });
        Ok(1)
    }

    async fn reclaim(&self, _target: &Target) -> Result<Option<u64>> {
        Ok(None)
    }
}
