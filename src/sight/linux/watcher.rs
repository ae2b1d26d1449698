//! The thread that looks. It has a handle of every container that it has looked at: files that are open, so that one look
//! more costs a few reads. To make one it goes into the container's network for a moment.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::Receiver,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tokio::sync::oneshot;

use super::{
    cgroup::{Cgroup, Gauge, Hierarchies},
    diag::{DATAGRAM, Socket},
    login,
    process::{Life, Process, gone, unseen},
    sockets::Sockets,
    terminal::Terminals,
};
use crate::model::{Connection, ContainerId, EngineId, Error, Look, Result, Target};

/// After how many looks in a row that it was not among, a container's handle is dropped.
const PATIENCE: u32 = 12;

/// What was found.
pub(super) type Looks = Vec<(ContainerId, Result<Look>)>;

/// One question.
pub(super) struct Question {
    pub(super) targets: Vec<Target>,
    pub(super) answer: oneshot::Sender<Looks>,
}

/// What the thread has.
pub(super) struct Watcher {
    home: OwnedFd,
    hierarchies: Hierarchies,
    /// By the numbers of their processes.
    handles: HashMap<u32, Handle>,
    buffer: Box<[u8; DATAGRAM]>,
    sockets: Vec<Socket>,
}

/// What is kept open of one container.
struct Handle {
    engine_id: EngineId,
    life: Life,
    cgroup: Cgroup,
    sockets: Sockets,
    processor: Option<Gauge>,
    disk: Option<Gauge>,
    terminals: Option<Terminals>,
    /// How many looks it has not been among.
    idle: u32,
}

/// Why no handle could be made.
enum Failure {
    /// This one cannot be looked at.
    This(Error),
    /// The thread is in somebody else's network, and cannot leave it.
    Lost(io::Error),
}

impl Watcher {
    /// For the thread that calls this. Fails where nothing could be seen: it must be allowed to change networks.
    pub(super) fn new(hierarchies: Hierarchies) -> io::Result<Self> {
        let home = openat(CWD, c"/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
        let buffer = Box::new([0; DATAGRAM]);
        Ok(Self { home, hierarchies, handles: HashMap::new(), buffer, sockets: Vec::new() })
    }

    /// Answers until nobody can ask any more, or the way home is lost.
    pub(super) fn run(mut self, questions: &Receiver<Question>) {
        while let Ok(Question { targets, answer }) = questions.recv() {
            match self.look(targets, &answer) {
                Ok(looks) => drop(answer.send(looks)),
                Err(error) => {
                    tracing::error!(%error, "cannot leave a container's network: nothing will be seen any more");
                    return;
                }
            }
        }
    }

    fn look(&mut self, targets: Vec<Target>, answer: &oneshot::Sender<Looks>) -> io::Result<Looks> {
        let mut looks = Vec::with_capacity(targets.len());
        let seen: HashSet<u32> = targets.iter().map(|target| target.pid).collect();
        for target in targets {
            // Nobody waits any more.
            if answer.is_closed() {
                break;
            }
            let look = match self.look_at(&target) {
                Err(Failure::Lost(error)) => return Err(error),
                Err(Failure::This(error)) => Err(error),
                Ok(look) => Ok(look),
            };
            looks.push((target.id, look));
        }
        self.handles.retain(|pid, handle| seen.contains(pid) || handle.is_kept());
        Ok(looks)
    }

    /// Looks at one. Only a handle with which that went well is kept.
    fn look_at(&mut self, target: &Target) -> Result<Look, Failure> {
        let known = self.handles.remove(&target.pid).filter(|handle| handle.is_of(target));
        let mut handle = match known {
            Some(handle) => handle,
            None => self.handle(target)?,
        };
        let look = handle.look(target, &mut self.buffer, &mut self.sockets).map_err(Failure::This)?;
        handle.idle = 0;
        self.handles.insert(target.pid, handle);
        Ok(look)
    }

    fn handle(&self, target: &Target) -> Result<Handle, Failure> {
        let process = Process::find(target, &self.hierarchies).map_err(Failure::This)?;
        let terminals = Terminals::of(&process);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let network =
            openat(process.folder(), c"ns/net", flags, Mode::empty()).map_err(|e| Failure::This(unseen(e)))?;
        let sockets = self.within(&network, || Sockets::of(&process))?.map_err(|e| Failure::This(unseen(e)))?;
        // Its files might have been somebody else's, had it gone meanwhile.
        if !process.is_there() {
            return Err(Failure::This(gone()));
        }
        let (life, cgroup) = process.into_parts();
        let (processor, disk) = (cgroup.processor(), cgroup.disk());
        Ok(Handle { engine_id: target.engine_id.clone(), life, cgroup, sockets, processor, disk, terminals, idle: 0 })
    }

    /// Does something in another network.
    fn within<T>(&self, network: &OwnedFd, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(network.as_fd(), kind).map_err(|e| Failure::This(unseen(e)))?;
        let outcome = work();
        move_into_link_name_space(self.home.as_fd(), kind).map_err(|e| Failure::Lost(e.into()))?;
        Ok(outcome)
    }
}

impl Handle {
    /// Whether it is this container's, and that is still there.
    fn is_of(&self, target: &Target) -> bool {
        self.engine_id == target.engine_id && self.life.is_there()
    }

    /// Whether it is kept after a look that it was not among.
    fn is_kept(&mut self) -> bool {
        self.idle += 1;
        self.idle < PATIENCE && self.life.is_there()
    }

    fn look(&mut self, target: &Target, buffer: &mut [u8; DATAGRAM], sockets: &mut Vec<Socket>) -> Result<Look> {
        self.sockets.connected(target.surely, buffer, sockets).map_err(unseen)?;
        sockets.retain(|socket| !socket.is_to_itself());
        let logins = if target.logins && !sockets.is_empty() {
            login::sockets(&self.cgroup.processes())
        } else {
            HashSet::new()
        };
        let connections = sockets.iter().map(|socket| Connection {
            port: socket.local.port(),
            client: socket.remote,
            quiet: socket.quiet,
            unread: socket.unread,
            login: logins.contains(&socket.inode),
        });
        Ok(Look {
            connections: connections.collect(),
            terminals: self.terminals.as_ref().map(Terminals::list).unwrap_or_default(),
            processor: self.processor.as_ref().and_then(|gauge| gauge.time(buffer)),
            disk: self.disk.as_ref().and_then(|gauge| gauge.read(buffer)),
        })
    }
}
