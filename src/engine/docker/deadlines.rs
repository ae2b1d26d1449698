//! How long each task at the engine may take. They are far above what a healthy engine needs: a deadline that passes
//! means that the engine is in trouble, not that the task was large.

use std::time::Duration;

use super::errors::Task;

/// The longest times, waiting for a free place and reading the whole answer included.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Looking: a ping, a list, an inspection. They take milliseconds; thousands of containers take a list to a second.
    pub look: Duration,
    /// Making a container or a network. The engine may be writing to a slow disk.
    pub create: Duration,
    /// Starting: beside thirty others one start takes seven seconds.
    pub start: Duration,
    /// Stopping, on top of the grace that the container is given.
    pub stop: Duration,
    /// Removing deletes a file system that may hold millions of files.
    pub remove: Duration,
    /// Copying files in or out.
    pub files: Duration,
    /// Freezing, its end, and names: they touch no disk to speak of.
    pub change: Duration,
    /// How long a command of its own is watched after the first start. The init process starts the command, so the engine
    /// reports success whatever comes of it; a command that is not there ends within milliseconds. Behind an entry point
    /// that does much before, or on a busy machine, it may end later: then the container is simply seen to have ended,
    /// with the same exit code.
    pub proof: Duration,
    /// Pulling: not the whole of it, but how long nothing may move.
    pub pull: Duration,
    /// Measuring walks all files that a container has written.
    pub measure: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            create: Duration::from_secs(30),
            start: Duration::from_secs(60),
            stop: Duration::from_secs(15),
            remove: Duration::from_secs(60),
            files: Duration::from_secs(30),
            change: Duration::from_secs(10),
            proof: Duration::from_millis(400),
            pull: Duration::from_secs(120),
            measure: Duration::from_secs(60),
        }
    }
}

impl Deadlines {
    /// The deadline of one task.
    pub(super) fn of(&self, task: &Task<'_>) -> Duration {
        match task {
            Task::Ping | Task::List | Task::Inspect | Task::Image(_) => self.look,
            Task::Create(_) | Task::Network(_) | Task::Volume(_) => self.create,
            Task::Start => self.start,
            Task::Stop(grace) => grace.saturating_add(self.stop),
            Task::Remove | Task::RemoveImage(_) => self.remove,
            Task::Put(_) | Task::Get(_) | Task::Logs => self.files,
            Task::Pull(_) => self.pull,
            Task::Measure => self.measure,
            Task::Freeze | Task::Thaw | Task::Rename(_) => self.change,
        }
    }
}
