//! The main process of a container, held so that no other can be taken for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, read},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::cgroup::{Cgroup, Hierarchies};
use crate::model::{Error, Result, Target};

/// What is read of the list of a process's cgroups: a dozen lines with an id in each.
const LIST: usize = 16 << 10;

/// A process that is the main one of a container, as long as it [is there](Life::is_there).
pub(super) struct Process {
    number: u32,
    folder: OwnedFd,
    life: Life,
    cgroup: Cgroup,
}

/// Whether a process is there.
pub(super) struct Life(OwnedFd);

impl Process {
    /// The process of the target.
    ///
    /// # Errors
    /// `NotFound` if it is not there, or not of this container; `Unavailable` if that cannot be told.
    pub(super) fn find(target: &Target, hierarchies: &Hierarchies) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, format!("/proc/{}", target.pid), flags, Mode::empty()).map_err(missing)?;
        let number = i32::try_from(target.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let life = Life(pidfd_open(number, PidfdFlags::empty()).map_err(missing)?);
        // The folder is of one process for ever. That it can be read from now means that it was that process all along.
        let list = openat(&folder, c"cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let list = list.map_err(|error| life.lost(error))?;
        let mut text = vec![0; LIST];
        let length = read(&list, &mut text[..]).map_err(|error| life.lost(error))?;
        let cgroup = hierarchies.find(&String::from_utf8_lossy(&text[..length]), &target.engine_id).ok_or_else(gone)?;
        Ok(Self { number: target.pid, folder, life, cgroup })
    }

    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Its folder in `/proc`.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Whether it is there.
    pub(super) fn is_there(&self) -> bool {
        self.life.is_there()
    }

    /// Why something of it could not be read.
    pub(super) fn lost(&self, cause: impl Into<std::io::Error>) -> Error {
        self.life.lost(cause)
    }

    /// The cgroup of its container.
    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What is kept of it.
    pub(super) fn into_parts(self) -> (Life, Cgroup) {
        (self.life, self.cgroup)
    }
}

impl Life {
    /// Whether it has not ended yet.
    pub(super) fn is_there(&self) -> bool {
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }

    /// Why something of the process could not be read: because it has ended meanwhile, or for another reason. What the
    /// kernel says does not tell that: "no such thing" is also its answer where it lacks a part.
    pub(super) fn lost(&self, cause: impl Into<std::io::Error>) -> Error {
        let cause = cause.into();
        if self.is_there() { unseen(cause) } else { gone().caused_by(cause) }
    }
}

/// Nobody is there, or somebody else.
pub(super) fn gone() -> Error {
    Error::not_found("the container is not there any more")
}

/// It cannot be looked at.
pub(super) fn unseen(cause: impl Into<std::io::Error>) -> Error {
    Error::unavailable("the container cannot be looked at").caused_by(cause.into())
}

/// The process of that number could not be taken hold of.
fn missing(cause: Errno) -> Error {
    match cause {
        Errno::NOENT | Errno::SRCH => gone().caused_by(std::io::Error::from(cause)),
        _ => unseen(cause),
    }
}
