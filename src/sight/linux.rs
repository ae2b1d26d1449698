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
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, oneshot},
    task::spawn_blocking,
    time::{Instant, timeout},
};

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
/// After how long a look answers with what it has seen so far: the rest of the time is for the container that it is at.
const ENOUGH: Duration = Duration::from_secs(7);
/// For how long what is kept open of a container stays so when it is not looked at.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many looks may wait for the one that is going on.
const WAITING: usize = 64;

/// The eyes.
pub struct Linux {
    hierarchies: Hierarchies,
    /// The way to the thread that looks, if it can.
    questions: Option<SyncSender<Question>>,
    /// Whose memory is reclaimed: one container's at a time, for that keeps a processor and a disk busy.
    reclaims: Arc<Mutex<()>>,
}

/// Why nobody answered.
#[derive(Clone, Copy)]
enum Silence {
    /// There never was anybody.
    Blind,
    /// Too many have asked before.
    Full,
    /// The thread has ended.
    Dead,
    /// The answer did not come in time.
    Late,
}

impl Silence {
    fn error(self) -> Error {
        Error::unavailable(match self {
            Self::Blind => "containers cannot be looked into: the log tells why, from when Spindown started".to_owned(),
            Self::Full => format!("more than {WAITING} looks into containers wait for one that takes long"),
            Self::Dead => {
                "who looks into containers has ended, for which the log has the reason: restart Spindown".to_owned()
            }
            Self::Late => format!("a look into containers did not end within {} s", DEADLINE.as_secs()),
        })
    }
}

impl Linux {
    /// Starts the thread that looks. Where it may not, this is not an error, but nothing [is seen](Sight::sees).
    ///
    /// # Errors
    /// `Unavailable` if the machine cannot start a thread, or tells nothing of itself.
    pub fn new() -> Result<Self> {
        Self::with_patience(PATIENCE)
    }

    /// The same, with another time for which what is kept open of a container stays so when it is not looked at.
    ///
    /// # Errors
    /// As [`Linux::new`].
    pub fn with_patience(patience: Duration) -> Result<Self> {
        let hierarchies = Hierarchies::here().map_err(blind)?;
        let (questions, asked) = sync_channel(WAITING);
        let (told, tells) = sync_channel(1);
        let mounted = hierarchies.clone();
        let work = move || match Watcher::new(mounted, patience) {
            Ok(watcher) => {
                drop(told.send(Ok(())));
                watcher.run(&asked);
            }
            Err(error) => drop(told.send(Err(error))),
        };
        thread::Builder::new().name("sight".to_owned()).spawn(work).map_err(blind)?;
        let able = tells.recv().map_err(|error| blind(io::Error::other(error)))?;
        if let Err(error) = &able {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "containers cannot be looked into");
        }
        Ok(Self { hierarchies, questions: able.is_ok().then_some(questions), reclaims: Arc::default() })
    }

    async fn ask(&self, targets: Vec<Target>) -> Result<Looks, Silence> {
        let (answer, answered) = oneshot::channel();
        let question = Question { targets, until: Instant::now() + ENOUGH, answer };
        self.questions.as_ref().ok_or(Silence::Blind)?.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => Silence::Full,
            TrySendError::Disconnected(_) => Silence::Dead,
        })?;
        timeout(DEADLINE, answered).await.map_err(|_| Silence::Late)?.map_err(|_| Silence::Dead)
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
            Ok(looks) => looks,
            Err(silence) => ids.into_iter().map(|id| (id, Err(silence.error()))).collect(),
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
        let turn = Arc::clone(&self.reclaims).lock_owned().await;
        let reclaimed = self.with(target, move |process| {
            // Also when nobody waits for it any more.
            let _turn = turn;
            process.cgroup().reclaim().map_err(|cause| process.lost(cause))
        });
        reclaimed.await
    }
}

/// Nothing can be seen at all.
fn blind(cause: io::Error) -> Error {
    Error::unavailable("containers cannot be looked into").caused_by(cause)
}
