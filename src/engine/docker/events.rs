//! The engine's events.
//!
//! A subscription must have no gap: whatever happens after [`subscribe`] has returned is delivered. The engine's answer
//! does not tell when the subscription stands (the headers are sent before it), so it is not waited for. Instead the
//! engine is asked what time it is by its own clock, and for all events since then: those that it records before the
//! subscription stands come out of its ring of the last 256, under the same lock that lets new ones in. What falls
//! between may come twice, which does no harm to hints.

use std::collections::HashMap;

use bollard::{models::EventMessage, query_parameters::EventsOptions};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Docker, convert, errors::Task};
use crate::{
    engine::{EngineEvent, Happening},
    model::{ContainerId, EngineId, Error, Kind, Result, birth},
};

/// How many events may wait for a reader. The engine drops events for a connection that is read too slowly, without a
/// word. So events are always read at once, and a reader that falls this far behind is told by the end of the stream.
const WAITING: usize = 8192;

impl Docker {
    /// What restricts a list or a stream to the containers of this instance.
    pub(super) fn filters(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{}={}", birth::MANAGED, self.instance)])])
    }
}

/// Subscribes to the events about this instance's containers.
pub(super) async fn subscribe(docker: &Docker) -> Result<BoxStream<'static, EngineEvent>> {
    let info = docker.call(Task::Ping, async { docker.client()?.info().await }).await?;
    let now = info.system_time.as_deref().and_then(convert::date);
    let now = now.ok_or_else(|| Error::new(Kind::Internal, "the engine does not tell its time"))?;
    let mut filters = docker.filters();
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let since = format!("{}.{:09}", now.unix_timestamp(), now.nanosecond());
    let options = EventsOptions { since: Some(since), until: None, filters: Some(filters) };
    let client = docker.client().map_err(|fault| super::translate(&Task::Ping, fault))?.clone();
    let (sender, receiver) = mpsc::channel(WAITING);
    // A task of its own connects at once, though nobody reads from the stream yet, and keeps reading.
    tokio::spawn(async move {
        let mut messages = Box::pin(client.events(Some(options)));
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = sender.closed() => return,
            };
            // An error is the end too: what comes after it cannot be trusted.
            let Some(Ok(message)) = message else { return };
            if let Some(event) = event(message)
                && let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = sender.try_send(event)
            {
                return;
            }
        }
    });
    Ok(futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|event| (event, receiver)) })
        .boxed())
}

/// The event in a message, if it matters.
fn event(message: EventMessage) -> Option<EngineEvent> {
    let what = happening(message.action.as_deref()?)?;
    let actor = message.actor?;
    let id = ContainerId::parse(actor.attributes?.get(birth::ID)?).ok()?;
    Some(EngineEvent { id, engine_id: EngineId::parse(&actor.id?).ok()?, what })
}

/// What an action of the engine's means. Looking into a container, running something in it or copying files changes
/// nothing that is kept of it.
fn happening(action: &str) -> Option<Happening> {
    match action {
        "kill" => Some(Happening::Signalled),
        "die" => Some(Happening::Ended),
        "destroy" => Some(Happening::Removed),
        "create" | "start" | "restart" | "stop" | "pause" | "unpause" | "rename" | "update" | "oom" => {
            Some(Happening::Changed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_an_event() {
        assert_eq!(happening("kill"), Some(Happening::Signalled));
        assert_eq!(happening("die"), Some(Happening::Ended));
        assert_eq!(happening("destroy"), Some(Happening::Removed));
        assert_eq!(happening("unpause"), Some(Happening::Changed));
        for noise in [
            "exec_create: sh -c true",
            "exec_start: true ",
            "exec_die",
            "top",
            "attach",
            "archive-path",
            "extract-to-dir",
        ] {
            assert_eq!(happening(noise), None, "{noise}");
        }
    }
}
