//! One thing done to every container with certain labels: a few at a time, each answered for by itself.

use futures::{StreamExt, stream};

use super::Filter;
use crate::{
    model::{ContainerId, Name, Result, Status},
    service::Spindown,
};

/// How many containers are removed at once.
const REMOVALS_AT_ONCE: usize = 8;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// As [`Spindown::start_container`].
    Start,
    /// As [`Spindown::stop_container`].
    Stop,
    /// As [`Spindown::remove_container`].
    Remove,
}

/// What came of it for one container.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub id: ContainerId,
    /// Its name before.
    pub name: Name,
    /// What it is doing now, `None` if it is gone; or why it was not done.
    pub result: Result<Option<Status>>,
}

impl Spindown {
    /// Does `action` to every container that has all of `labels` (`None` asks for any value), in the order of their
    /// creation. Returns when each is up, is gone or is ordered to stop.
    ///
    /// # Errors
    /// `Unavailable` before the engine has told which containers there are. What fails for one is in its outcome.
    pub async fn do_to_all(&self, action: Action, labels: Vec<(String, Option<String>)>) -> Result<Vec<Outcome>> {
        let those = self.list_containers(&Filter { labels, ..Filter::default() })?;
        let at_once = match action {
            // No more than start at once, so that none is refused for those of this call that wait.
            Action::Start => self.settings.starts_at_once,
            Action::Stop => self.settings.stops_at_once,
            Action::Remove => REMOVALS_AT_ONCE,
        };
        let outcomes = stream::iter(those).map(|report| async move {
            let (id, name) = (report.container.id, report.container.name);
            let result = match action {
                Action::Start => self.start_container(id.as_str()).await.map(|report| Some(report.status)),
                Action::Stop => self.order_down(&id).await.map(|report| Some(report.status)),
                Action::Remove => self.remove_container(id.as_str(), false).await.map(|()| None),
            };
            Outcome { id, name, result }
        });
        let outcomes = outcomes.buffered(at_once.max(1)).collect().await;
        if action == Action::Stop {
            // They take their turns.
            self.retry_stops().await;
        }
        Ok(outcomes)
    }
}
