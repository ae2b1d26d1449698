//! `/v1/containers`.

mod input;
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

use self::{
    input::{Bulk, Listing, Patch, log_range, new_container, with_volumes},
    view::{ActivityView, ContainerView, Created, OutcomeView},
};
use crate::{
    http::{
        auth::Caller,
        catch::Refusal,
        fields::{Fields, QueryFields},
        problem::Problem,
        request::Trace,
    },
    service::{Spindown, container::IdempotencyKey},
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![list, create, bulk, show, change, reset, remove, activity, logs]
}

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

#[get("/containers/<name>")]
async fn show(_caller: Caller, name: &str, spindown: &State<Arc<Spindown>>) -> Result<Json<ContainerView>, Problem> {
    Ok(Json(spindown.find_container(name)?.into()))
}

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

#[get("/containers/<name>/activity")]
async fn activity(_caller: Caller, name: &str, spindown: &State<Arc<Spindown>>) -> Result<Json<ActivityView>, Problem> {
    Ok(Json(spindown.activity(name)?.into()))
}

/// What containers write may be anything; whoever reads it is told that it is text, and nothing else is made of it.
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
