//! Sight on Linux: sockets by inet_diag, the cgroup's files, terminals below `/dev/pts`. Only on the machine where the
//! containers are, and only for root.

mod cgroup;
mod diag;
mod login;
mod process;
mod sockets;
mod terminal;
mod watcher;

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use self::{
    cgroup::Hierarchies,
    process::{Process, gone, unseen},
    terminal::Terminals,
    watcher::{Looks, Question, Watcher},
};
use super::Sight;
use crate::model::{ContainerId, Error, Look, Result, Target};

/// How long one look may take, at however many.
const DEADLINE: Duration = Duration::from_secs(10);
/// How many looks may wait for the one that is going on.
const WAITING: usize = 64;

/// The eyes.
pub struct Linux {
    hierarchies: Hierarchies,
    /// The way to the thread that looks, if it can.
    questions: Option<SyncSender<Question>>,
}

impl Linux {
    /// Starts the thread that looks. Where it may not, this is not an error, but nothing [is seen](Sight::sees).
    ///
    /// # Errors
    /// `Unavailable` if the machine cannot start a thread, or tells nothing of itself.
    pub fn new() -> Result<Self> {
        let hierarchies = Hierarchies::here().map_err(blind)?;
        let (questions, asked) = sync_channel(WAITING);
        let (told, tells) = sync_channel(1);
        let mounted = hierarchies.clone();
        let work = move || match Watcher::new(mounted) {
            Ok(watcher) => {
                drop(told.send(Ok(())));
                watcher.run(&asked);
            }
            Err(error) => drop(told.send(Err(error))),
        };
        thread::Builder::new().name("sight".to_owned()).spawn(work).map_err(blind)?;
        let able = tells.recv().map_err(|error| blind(io::Error::other(error)))?;
        if let Err(error) = &able {
            tracing::warn!(%error, "containers cannot be looked into: that takes root's rights on their machine");
        }
        Ok(Self { hierarchies, questions: able.is_ok().then_some(questions) })
    }

    async fn ask(&self, targets: Vec<Target>) -> Option<Looks> {
        let (answer, answered) = oneshot::channel();
        self.questions.as_ref()?.try_send(Question { targets, answer }).ok()?;
        timeout(DEADLINE, answered).await.ok()?.ok()
    }

    /// Does something with the process of a target that may take a while.
    async fn with<T: Send + 'static>(
        &self,
        target: &Target,
        work: impl FnOnce(Process) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (target, hierarchies) = (target.clone(), self.hierarchies.clone());
        let done = spawn_blocking(move || work(Process::find(&target, &hierarchies)?)).await;
        done.map_err(|error| unseen(io::Error::other(error)))?
    }
}

#[async_trait]
impl Sight for Linux {
    fn sees(&self) -> bool {
        self.questions.is_some()
    }

    async fn look(&self, targets: Vec<Target>) -> Vec<(ContainerId, Result<Look>)> {
        let ids: Vec<ContainerId> = targets.iter().map(|target| target.id.clone()).collect();
        match self.ask(targets).await {
            Some(looks) => looks,
            None => ids.into_iter().map(|id| (id, Err(unseen(io::ErrorKind::TimedOut)))).collect(),
        }
    }

    async fn tell(&self, target: &Target, line: &str) -> Result<usize> {
        let line = line.to_owned();
        let told = self.with(target, move |process| {
            let terminals = Terminals::of(&process);
            // The folder might have been somebody else's, had it gone meanwhile.
            if !process.is_there() {
                return Err(gone());
            }
            Ok(terminals.map_or(0, |terminals| terminals.tell(&line)))
        });
        timeout(DEADLINE, told).await.map_err(|_| unseen(io::ErrorKind::TimedOut))?
    }

    async fn reclaim(&self, target: &Target) -> Result<Option<u64>> {
        self.with(target, |process| process.cgroup().reclaim().map_err(unseen)).await
    }
}

/// Nothing can be seen at all.
fn blind(cause: io::Error) -> Error {
    Error::unavailable("containers cannot be looked into").caused_by(cause)
}
