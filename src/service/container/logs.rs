//! A container's output. Reading it is no sign of use.

use std::sync::Mutex;

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stop::missing;
use crate::{
    model::{LogRange, Moment, Result, Status},
    service::{Spindown, Unpoisoned},
};

/// How many may read at once. A reader who is gone is noticed only when there is something to tell him, so nobody is
/// refused for readers that there may no longer be: the one to whom nothing has been told for longest makes room.
const READERS: usize = 64;
/// How many pieces may wait for a reader; the engine waits with the rest.
const WAITING: usize = 16;

/// One who reads.
struct Reader {
    number: u64,
    last_told: Moment,
    end: CancellationToken,
}

/// Those who read the output of containers.
#[derive(Default)]
pub(in crate::service) struct Readers(Mutex<(u64, Vec<Reader>)>);

impl Readers {
    /// Takes one in, and shows out the one who has been silent for longest if they are too many. Answers his number, and
    /// what tells him to go.
    fn enter(&self, now: Moment) -> (u64, CancellationToken) {
        let (last, readers) = &mut *self.0.locked();
        if readers.len() >= READERS
            && let Some(longest) = (0..readers.len()).min_by_key(|at| readers[*at].last_told)
        {
            readers.swap_remove(longest).end.cancel();
        }
        *last += 1;
        let end = CancellationToken::new();
        readers.push(Reader { number: *last, last_told: now, end: end.clone() });
        (*last, end)
    }

    fn told(&self, number: u64, now: Moment) {
        if let Some(reader) = self.0.locked().1.iter_mut().find(|r| r.number == number) {
            reader.last_told = now;
        }
    }

    fn leave(&self, number: u64) {
        self.0.locked().1.retain(|reader| reader.number != number);
    }
}

/// The pieces of a container's output. The reading ends when this is dropped.
pub type Output = mpsc::Receiver<Vec<u8>>;

impl Spindown {
    /// A container's output, running or not. Following ends with the container, and when the server ends.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the engine has it no more; `Unavailable` without the engine.
    pub async fn container_logs(&self, name: &str, range: &LogRange) -> Result<Output> {
        let id = self.find(name)?;
        let engine_id = self.snapshot.require(&id)?.container.engine_id;
        self.look_again(&id, &engine_id).await?;
        let entry = self.snapshot.require(&id)?;
        if entry.status() == Status::Missing {
            return Err(missing(&entry.container.name));
        }
        let pieces = self.engine.logs(&engine_id, range).await?;
        let (number, end) = self.readers.enter(self.now().moment);
        let (teller, told) = mpsc::channel(WAITING);
        self.spawn(|spindown| async move {
            tokio::select! {
                () = spindown.tell(pieces, &teller, number) => {}
                () = teller.closed() => {}
                () = end.cancelled() => {}
                () = spindown.shutdown.cancelled() => {}
            }
            spindown.readers.leave(number);
        });
        Ok(told)
    }

    async fn tell(&self, mut pieces: BoxStream<'static, Result<Vec<u8>>>, teller: &mpsc::Sender<Vec<u8>>, number: u64) {
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => {
                    if teller.send(piece).await.is_err() {
                        return;
                    }
                    self.readers.told(number, self.now().moment);
                }
                Err(error) => {
                    tracing::warn!(error = error.message(), source = ?error, "a container's output ends early");
                    return;
                }
            }
        }
    }
}
