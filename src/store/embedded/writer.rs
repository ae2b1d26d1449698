//! The writer: one thread that takes whatever writes are waiting into one transaction. Making a transaction safe
//! costs the same for one write as for a hundred.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot};

use super::file::{DataFile, Fault};
use crate::model::{Error, Kind, Result};

/// How many writes may wait before callers wait to hand in theirs; also the most that one transaction takes.
const QUEUE: usize = 1024;

/// One write and where its answer goes.
trait Job: Send {
    /// Does the write. An error ends the whole transaction; a refusal is kept for the answer.
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Answers, once it is known whether the transaction is safe.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Call<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&WriteTransaction) -> Result<T, Fault> + Send,
{
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.outcome = match work(transaction) {
            Ok(value) => Some(Ok(value)),
            Err(Fault::Refused(error)) => Some(Err(error)),
            Err(Fault::Storage(error)) => return Err(error),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let outcome = match (self.outcome, committed) {
            // What the caller did wrong stays wrong, committed or not.
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(failed)) => Err(failed),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(gone()),
        };
        // The caller may have left; the write stands.
        let _ = self.reply.send(outcome);
    }
}

/// The way to the thread.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<thread::JoinHandle<()>>,
    failing: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(file: Arc<DataFile>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&failing);
        let thread = thread::Builder::new().name("store".into()).spawn(move || run(&file, queue, &seen));
        let thread = thread.map_err(|e| Error::unavailable("the store's thread cannot be started").caused_by(e))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), failing })
    }

    /// Whether the last transaction failed.
    pub(super) fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Writes; safe on the disk when it returns. `work` refuses before it changes anything: it shares its transaction.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Call { work: Some(work), outcome: None, reply });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    /// Waits for what is queued, so that the file is free for the next server.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(file: &DataFile, mut queue: mpsc::Receiver<Box<dyn Job>>, failing: &AtomicBool) {
    let mut jobs = Vec::with_capacity(QUEUE);
    while queue.blocking_recv_many(&mut jobs, QUEUE) > 0 {
        let committed = file.work(|database| {
            let mut transaction = database.begin_write()?;
            // Opening after a crash takes a millisecond instead of a walk through the whole file.
            transaction.set_quick_repair(true);
            for job in &mut jobs {
                job.apply(&transaction).map_err(Fault::Storage)?;
            }
            transaction.commit()?;
            Ok(())
        });
        failing.store(committed.is_err(), Ordering::Relaxed);
        match committed {
            Ok(()) => jobs.drain(..).for_each(|job| job.answer(Ok(()))),
            Err(error) => {
                tracing::warn!(error = ?error, writes = jobs.len(), "the store could not be written");
                jobs.drain(..).for_each(|job| job.answer(Err(Error::new(error.kind(), error.message()))));
            }
        }
    }
}

fn gone() -> Error {
    Error::new(Kind::Internal, "the store's writer has ended: restart the server")
}
