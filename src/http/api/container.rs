//! `/v1/containers`.

mod input;
mod schema;
mod view;

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use rocket::{
    Request, Route, State, delete, get,
    http::{ContentType, Status},
    outcome::Outcome,
    patch, post,
    request::{self, FromRequest},
    response::stream::ByteStream,
    routes,
    serde::json::Json,
};
use utoipa::OpenApi;

pub(super) use self::schema::{EventWord, StoppedByWord};
use self::{
    input::{Bulk, Listing, Patch, extension, log_range, new_container, with_volumes},
    schema::{BulkAction, ContainerChange, Extension, ListQuery, LogsQuery, NewContainer, RemoveQuery},
    view::{ActivityView, ContainerView, Created, OutcomeView},
};
use crate::{
    http::{
        auth::Caller,
        catch::Refusal,
        fields::{Fields, QueryFields},
        openapi::Refused,
        problem::Problem,
        request::Trace,
    },
    service::{Spindown, container::IdempotencyKey},
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![list, create, bulk, show, change, extend, reset, remove, activity, logs]
}

#[derive(OpenApi)]
#[openapi(paths(list, create, bulk, show, change, extend, reset, remove, activity, logs))]
pub(in crate::http) struct Docs;

/// The caller's mark on a create, if there is one.
struct Key(Option<IdempotencyKey>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Key {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match request.headers().get_one("Idempotency-Key").map(IdempotencyKey::parse).transpose() {
            Ok(key) => Outcome::Success(Self(key)),
            Err(error) => Outcome::Error((Refusal::leave(request, Status::BadRequest, error), ())),
        }
    }
}

/// Lists the containers, in the order of their creation; those that are down are included.
#[utoipa::path(
    operation_id = "list_containers",
    params(ListQuery),
    responses(
        (status = 200, description = "One page of them", body = [ContainerView]),
        Caller, QueryFields, Refused<404>, Refused<409>, Refused<503>,
    )
)]
#[get("/containers")]
async fn list(
    _caller: Caller,
    trace: Trace,
    query: QueryFields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Json<Vec<ContainerView>>, Problem> {
    let Listing { filter, audit } = Listing::read(query.0)?;
    if audit {
        trace.follow(spindown.refresh_all(true)).await?;
    }
    let reports = spindown.list_containers(&filter)?;
    Ok(Json(reports.into_iter().map(ContainerView::from).collect()))
}

/// Makes a container and starts it.
///
/// The answer comes when it runs and, if it serves SSH, half a second later at most when that is not ready.
#[utoipa::path(
    operation_id = "create_container",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Whoever got no answer may repeat the request with its key, and gets what the first one made",
        min_length = 1, max_length = 255, pattern = "^[!-~]([ -~]*[!-~])?$"
    )),
    request_body = NewContainer,
    responses(
        (
            status = 201, description = "It runs", body = ContainerView,
            headers(("Location" = String, description = "Where it is shown"))
        ),
        Caller, Fields, Refused<409>, Refused<422>, Refused<503>,
    )
)]
#[post("/containers", data = "<fields>")]
async fn create(
    caller: Caller,
    trace: Trace,
    key: Key,
    fields: Fields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Created, Problem> {
    let wanted = new_container(fields)?;
    let report = trace.follow(spindown.create_container(&caller.name, wanted, key.0.as_ref())).await?;
    Ok(Created(report.into()))
}

/// Starts, stops or deletes all containers that have certain labels.
///
/// Each is answered for. Stops are begun; starts are waited for.
#[utoipa::path(
    operation_id = "change_containers",
    request_body = BulkAction,
    responses(
        (status = 200, description = "What came of it for each", body = [OutcomeView]),
        Caller, Fields, Refused<503>,
    )
)]
#[post("/containers/bulk", data = "<fields>")]
async fn bulk(
    _caller: Caller,
    trace: Trace,
    fields: Fields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Json<Vec<OutcomeView>>, Problem> {
    let Bulk { action, labels } = Bulk::read(fields)?;
    let outcomes = trace.follow(spindown.do_to_all(action, labels)).await?;
    Ok(Json(outcomes.into_iter().map(OutcomeView::from).collect()))
}

/// Shows a container.
#[utoipa::path(
    operation_id = "show_container",
    responses(
        (status = 200, description = "The container", body = ContainerView),
        Caller, Refused<404>, Refused<409>, Refused<503>,
    )
)]
#[get("/containers/<name>")]
async fn show(_caller: Caller, name: &str, spindown: &State<Arc<Spindown>>) -> Result<Json<ContainerView>, Problem> {
    Ok(Json(spindown.find_container(name)?.into()))
}

/// Starts, freezes, stops or changes a container.
#[utoipa::path(
    operation_id = "change_container",
    request_body = ContainerChange,
    responses(
        (status = 200, description = "As it is now", body = ContainerView),
        Caller, Fields, Refused<404>, Refused<409>, Refused<422>, Refused<503>,
    )
)]
#[patch("/containers/<name>", data = "<fields>")]
async fn change(
    _caller: Caller,
    trace: Trace,
    name: &str,
    fields: Fields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Json<ContainerView>, Problem> {
    let patch = Patch::read(fields)?;
    let report = trace.follow(patch.apply(spindown, name)).await?;
    Ok(Json(report.into()))
}

/// Keeps a container up for longer.
///
/// It goes down no rung until then, however idle it is.
#[utoipa::path(
    operation_id = "extend_container",
    request_body = Extension,
    responses(
        (status = 200, description = "As it is now", body = ContainerView),
        Caller, Fields, Refused<404>, Refused<409>, Refused<503>,
    )
)]
#[post("/containers/<name>/extend", data = "<fields>")]
async fn extend(
    _caller: Caller,
    trace: Trace,
    name: &str,
    fields: Fields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Json<ContainerView>, Problem> {
    let by = extension(fields)?;
    let report = trace.follow(spindown.extend_container(name, by)).await?;
    Ok(Json(report.into()))
}

/// Puts a container back to its image; it keeps its id, its ports and its keys.
#[utoipa::path(
    operation_id = "reset_container",
    responses(
        (status = 200, description = "It runs, as new", body = ContainerView),
        Caller, Refused<404>, Refused<409>, Refused<422>, Refused<503>,
    )
)]
#[post("/containers/<name>/reset")]
async fn reset(
    _caller: Caller,
    trace: Trace,
    name: &str,
    spindown: &State<Arc<Spindown>>,
) -> Result<Json<ContainerView>, Problem> {
    let report = trace.follow(spindown.reset_container(name)).await?;
    Ok(Json(report.into()))
}

/// Removes a container with everything in it, and frees its ports.
#[utoipa::path(
    operation_id = "remove_container",
    params(RemoveQuery),
    responses((status = 204, description = "It is gone"), Caller, QueryFields, Refused<404>, Refused<409>, Refused<503>)
)]
#[delete("/containers/<name>")]
async fn remove(
    _caller: Caller,
    trace: Trace,
    name: &str,
    query: QueryFields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Status, Problem> {
    let volumes = with_volumes(query.0)?;
    trace.follow(spindown.remove_container(name, volumes)).await?;
    Ok(Status::NoContent)
}

/// Tells why a container is up or down, and until when.
#[utoipa::path(
    operation_id = "show_activity",
    responses(
        (status = 200, description = "What was seen, and what follows from it", body = ActivityView),
        Caller, Refused<404>, Refused<409>, Refused<503>,
    )
)]
#[get("/containers/<name>/activity")]
async fn activity(_caller: Caller, name: &str, spindown: &State<Arc<Spindown>>) -> Result<Json<ActivityView>, Problem> {
    Ok(Json(spindown.activity(name)?.into()))
}

/// Tells what a container writes to its output.
///
/// What containers write may be anything; whoever reads it is told that it is text, and nothing else is made of it.
#[utoipa::path(
    operation_id = "read_logs",
    params(LogsQuery),
    responses(
        (status = 200, description = "Both streams in the order of arrival", body = String,
            content_type = "text/plain; charset=utf-8"),
        Caller, QueryFields, Refused<404>, Refused<409>, Refused<503>,
    )
)]
#[get("/containers/<name>/logs")]
async fn logs(
    _caller: Caller,
    trace: Trace,
    name: &str,
    query: QueryFields,
    spindown: &State<Arc<Spindown>>,
) -> Result<(ContentType, ByteStream<BoxStream<'static, Vec<u8>>>), Problem> {
    let range = log_range(query.0)?;
    let output = trace.follow(spindown.container_logs(name, &range)).await?;
    let pieces =
        futures::stream::unfold(output, |mut output| async { output.recv().await.map(|piece| (piece, output)) });
    Ok((ContentType::Plain, ByteStream(pieces.boxed())))
}
