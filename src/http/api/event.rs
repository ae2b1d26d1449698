//! `/v1/events`: what happens, as server-sent events.

use std::sync::Arc;

use rocket::{
    Request, Route, State, get,
    http::Status,
    outcome::Outcome,
    request::{self, FromRequest},
    response::stream::{Event as Message, EventStream},
    routes,
};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::{
    http::{
        api::{
            container::{EventWord, StoppedByWord},
            date,
        },
        auth::Caller,
        catch::Refusal,
        fields::{QueryFields, about},
        openapi::Refused,
        problem::Problem,
    },
    model::{Error, Event, Kind, Result, StoppedBy, What},
    service::{
        Spindown,
        event::{Page, Reader},
    },
};

/// How many may read along at once: each holds a connection open.
const READERS: usize = 64;

const QUERY: [&str; 1] = ["after"];

/// The places for readers.
pub(in crate::http) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![events]
}

/// What is told of an event.
#[derive(Debug, Serialize)]
struct EventView {
    id: u64,
    #[serde(flatten)]
    happened: HappenedView,
    container: Option<ContainerRef>,
}

/// What happened, and what is told beside that where there is something to tell.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Happened)]
pub(super) struct HappenedView {
    /// When it was noticed.
    #[schema(format = DateTime)]
    at: String,
    /// What happened.
    #[schema(value_type = EventWord)]
    event: &'static str,
    /// With `stopping` and `stopped`: who or what brought it down.
    #[schema(value_type = Option<StoppedByWord>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    /// With `stopped`: what its main process ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    /// With `woken` and `wake_refused`: the address that connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// With `woken`: for how long that client waited, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    /// With `warned`: when it is stopped if nothing more happens.
    #[schema(format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stops_at: Option<String>,
    /// With `wake_refused`: why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl HappenedView {
    pub(super) fn new(at: OffsetDateTime, what: What) -> Self {
        let (at, event) = (date(at), what.as_str());
        let bare =
            Self { at, event, by: None, exit_code: None, client: None, waited_ms: None, stops_at: None, reason: None };
        match what {
            What::Stopping(by) => Self { by: Some(by.as_str()), ..bare },
            What::Stopped { by, exit_code } => Self { by: by.map(StoppedBy::as_str), exit_code, ..bare },
            What::Woken { client, took } => {
                let waited = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                Self { client: Some(client.to_string()), waited_ms: Some(waited), ..bare }
            }
            What::Warned { stops_at } => Self { stops_at: Some(date(stops_at)), ..bare },
            What::WakeRefused { client, reason } => {
                Self { client: Some(client.to_string()), reason: Some(reason.into_owned()), ..bare }
            }
            _ => bare,
        }
    }
}

#[derive(Debug, Serialize)]
struct ContainerRef {
    id: String,
    name: String,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            happened: HappenedView::new(event.at, event.what),
            container: event
                .container
                .map(|(id, name)| ContainerRef { id: id.to_string(), name: name.as_str().to_owned() }),
        }
    }
}

/// The last event that a client saw before its connection was lost, as a browser tells it.
struct LastEventId(Option<u64>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for LastEventId {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let header = request.headers().get_one("Last-Event-ID").filter(|id| !id.is_empty());
        match header.map(|id| about("Last-Event-ID", number(id))).transpose() {
            Ok(id) => Outcome::Success(Self(id)),
            Err(error) => Outcome::Error((Refusal::leave(request, Status::BadRequest, error), ())),
        }
    }
}

#[derive(OpenApi)]
#[openapi(paths(events))]
pub(in crate::http) struct Docs;

/// From where on events are read, as the document tells it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, and never made")]
struct EventsQuery {
    /// The number of an event: what happened since comes first. Without it only what happens from now on.
    after: Option<u64>,
}

/// Tells what happens, as it happens.
///
/// Server-sent events; each `data` is an object of JSON with the members `id`, `at`, `event` and `container`.
#[utoipa::path(
    operation_id = "follow_events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was read; goes before `after`")
    ),
    responses(
        (status = 200, description = "A stream that ends with the server", body = String,
            content_type = "text/event-stream"),
        Caller, QueryFields, Refused<429>,
    )
)]
#[get("/events")]
fn events(
    _caller: Caller,
    last: LastEventId,
    query: QueryFields,
    spindown: &State<Arc<Spindown>>,
    readers: &State<Readers>,
) -> Result<EventStream![], Problem> {
    let mut fields = query.0;
    let after = fields.scalar("after")?.map(|text| about("after", number(&text))).transpose()?;
    fields.finish(&QUERY)?;
    let Ok(place) = Arc::clone(&readers.0).try_acquire_owned() else {
        let message = format!("{READERS} readers follow the events already: close one");
        return Err(Error::new(Kind::TooMany, message).into());
    };
    let spindown = Arc::clone(spindown);
    let mut reader = spindown.read_events(last.0.or(after));
    Ok(EventStream! {
        let _place = place;
        while let Some(messages) = next(&spindown, &mut reader).await {
            for message in messages {
                yield message;
            }
        }
    })
}

async fn next(spindown: &Spindown, reader: &mut Reader) -> Option<Vec<Message>> {
    Some(match spindown.next_events(reader).await? {
        Page::Gap => vec![Message::data("{}").event("gap")],
        Page::Events(events) => events.into_iter().map(message).collect(),
    })
}

fn message(event: Event) -> Message {
    let (id, word) = (event.id.to_string(), event.what.as_str());
    Message::json(&EventView::from(event)).event(word).id(id)
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::invalid("must be the number of an event"))
}
