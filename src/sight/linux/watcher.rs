//! The thread that looks. It has a handle of every container that it has looked at: files that are open, so that one look
//! more costs a few reads. To make one it goes into the container's network for a moment.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc::Receiver,
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    cgroup::{Cgroup, Gauge, Hierarchies},
    diag::{DATAGRAM, Socket},
    login,
    process::{Life, Process, gone, unseen},
    sockets::{self, Sockets},
    terminal::Terminals,
};
use crate::model::{Connection, ContainerId, EngineId, Error, Look, Result, Target};

/// How long it may take to find out who has logged in to one container. What is in it decides how long that takes, so
/// whoever has made it long is alone with that.
const LOGINS: Duration = Duration::from_millis(500);

/// What was found.
pub(super) type Looks = Vec<(ContainerId, Result<Look>)>;

/// One question.
pub(super) struct Question {
    pub(super) targets: Vec<Target>,
    /// When it has to be answered, with what has been seen by then.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Looks>,
}

/// What the thread has.
pub(super) struct Watcher {
    home: OwnedFd,
    hierarchies: Hierarchies,
    /// For how long the handle of a container is kept that is not looked at.
    patience: Duration,
    /// By the numbers of their processes.
    handles: HashMap<u32, Handle>,
    /// The processes that were not reached the last time. They come first, lest they never be.
    late: HashSet<u32>,
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
    /// When it was last looked at.
    looked: Instant,
}

/// Why no handle could be made.
enum Failure {
    /// This one cannot be looked at.
    This(Error),
    /// The thread is in somebody else's network, and cannot leave it.
    Lost(io::Error),
}

impl Watcher {
    /// For the thread that calls this.
    ///
    /// # Errors
    /// `Unavailable` where nothing could be seen: it must be allowed to change networks, and the kernel to answer.
    pub(super) fn new(hierarchies: Hierarchies, patience: Duration) -> Result<Self> {
        let powerless = |cause: Errno| {
            Error::unavailable("that takes root's rights on their machine").caused_by(io::Error::from(cause))
        };
        let mut watcher = Self::at_home(hierarchies, patience).map_err(powerless)?;
        move_into_link_name_space(watcher.home.as_fd(), Some(LinkNameSpaceType::Network)).map_err(powerless)?;
        sockets::lacking(&mut watcher.buffer).map_or(Ok(watcher), Err)
    }

    /// One that has seen nothing yet.
    fn at_home(hierarchies: Hierarchies, patience: Duration) -> Result<Self, Errno> {
        let home = openat(CWD, c"/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let buffer = Box::new([0; DATAGRAM]);
        let (handles, late) = (HashMap::new(), HashSet::new());
        Ok(Self { home, hierarchies, patience, handles, late, buffer, sockets: Vec::new() })
    }

    /// Answers until nobody can ask any more, or the way home is lost.
    pub(super) fn run(mut self, questions: &Receiver<Question>) {
        while let Ok(Question { targets, until, answer }) = questions.recv() {
            match self.look(targets, until, &answer) {
                Ok(looks) => drop(answer.send(looks)),
                Err(error) => {
                    tracing::error!(%error, "cannot leave a container's network: nothing will be seen any more");
                    return;
                }
            }
        }
    }

    fn look(&mut self, mut targets: Vec<Target>, until: Instant, answer: &oneshot::Sender<Looks>) -> io::Result<Looks> {
        let mut looks = Vec::with_capacity(targets.len());
        targets.sort_by_key(|target| !self.late.contains(&target.pid));
        // One alone is looked at between two looks at all.
        if targets.len() > 1 {
            self.late.clear();
        }
        for target in targets {
            // Nobody waits any more.
            if answer.is_closed() {
                break;
            }
            if Instant::now() >= until {
                self.late.insert(target.pid);
                looks.push((target.id, Err(unreached())));
                continue;
            }
            let look = match self.look_at(&target) {
                Err(Failure::Lost(error)) => return Err(error),
                Err(Failure::This(error)) => Err(error),
                Ok(look) => Ok(look),
            };
            looks.push((target.id, look));
        }
        let (now, patience) = (Instant::now(), self.patience);
        self.handles.retain(|_, handle| now.duration_since(handle.looked) < patience && handle.life.is_there());
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
        handle.looked = Instant::now();
        self.handles.insert(target.pid, handle);
        Ok(look)
    }

    fn handle(&self, target: &Target) -> Result<Handle, Failure> {
        let process = Process::find(target, &self.hierarchies).map_err(Failure::This)?;
        let terminals = Terminals::of(&process);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let network =
            openat(process.folder(), c"ns/net", flags, Mode::empty()).map_err(|e| Failure::This(process.lost(e)))?;
        let sockets =
            self.within(&network, || Sockets::of(&process))?.map_err(|e| Failure::This(sockets::untold(e)))?;
        // Its files might have been somebody else's, had it gone meanwhile.
        if !process.is_there() {
            return Err(Failure::This(gone()));
        }
        let (life, cgroup) = process.into_parts();
        let (processor, disk) = (cgroup.processor(), cgroup.disk());
        let (engine_id, looked) = (target.engine_id.clone(), Instant::now());
        Ok(Handle { engine_id, life, cgroup, sockets, processor, disk, terminals, looked })
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

    fn look(&mut self, target: &Target, buffer: &mut [u8; DATAGRAM], sockets: &mut Vec<Socket>) -> Result<Look> {
        if let Err(cause) = self.sockets.connected(target.surely, buffer, sockets) {
            return Err(if self.life.is_there() { sockets::untold(cause) } else { gone().caused_by(cause) });
        }
        sockets.retain(|socket| !socket.is_to_itself());
        let logins = if target.logins && !sockets.is_empty() {
            let until = Instant::now() + LOGINS;
            login::sockets(&self.cgroup.processes(), until).map_err(crowded)?
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

/// It was not looked at, for others took all the time there was.
fn unreached() -> Error {
    Error::unavailable("the container was not reached in time: the look took too long")
}

/// Who has logged in could not be found out in time.
fn crowded(cause: io::Error) -> Error {
    let message = format!(
        "in {} ms it could not be found out who has logged in: too much looks like a session",
        LOGINS.as_millis()
    );
    Error::unavailable(message).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn target(number: u32) -> Target {
        let engine_id = EngineId::parse(&"5a".repeat(32)).unwrap();
        let id = ContainerId::from_bits(number.into());
        // No process has such a number.
        Target { id, engine_id, pid: 1 << 30 | number, logins: true, surely: false }
    }

    #[test]
    fn what_is_not_reached_in_time_is_told_so_and_comes_first_the_next_time() {
        let mut watcher = Watcher::at_home(Hierarchies::default(), Duration::from_secs(60)).unwrap();
        let (answer, _answered) = oneshot::channel();
        let later = Instant::now() + Duration::from_secs(60);
        let mut look = |numbers: &[u32], until| {
            let looks = watcher.look(numbers.iter().map(|number| target(*number)).collect(), until, &answer).unwrap();
            looks.into_iter().map(|(id, look)| (id, look.unwrap_err())).collect::<Vec<_>>()
        };
        let kinds = |looks: &[(ContainerId, Error)]| looks.iter().map(|(_, error)| error.kind()).collect::<Vec<_>>();

        let late = look(&[2, 3], Instant::now());
        assert_eq!(kinds(&late), [Kind::Unavailable; 2]);
        assert!(late[0].1.message().contains("not reached in time"), "{}", late[0].1);
        let next = look(&[1, 2, 3], later);
        assert_eq!(kinds(&next), [Kind::NotFound; 3]);
        let order = |looks: &[(ContainerId, Error)]| looks.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        assert_eq!(order(&next), [2, 3, 1].map(|number: u32| target(number).id));
        assert_eq!(order(&look(&[1, 2, 3], later)), [1, 2, 3].map(|number: u32| target(number).id));
    }
}
