//! `/v1/containers`.

mod input;
mod schema;
mod view;

use std::sync::Arc;

use rocket::{
    Request, Route, State, delete, get,
    http::Status,
    outcome::Outcome,
    patch, post,
    request::{self, FromRequest},
    routes,
    serde::json::Json,
};
use utoipa::OpenApi;

use self::{
    input::{Listing, Patch, new_container},
    schema::{ContainerChange, ListQuery, NewContainer},
    view::{ActivityView, ContainerView, Created},
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
    routes![list, create, show, change, remove, activity]
}

#[derive(OpenApi)]
#[openapi(paths(list, create, show, change, remove, activity))]
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

/// Starts, stops or changes a container.
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

/// Removes a container with everything in it, and frees its ports.
#[utoipa::path(
    operation_id = "remove_container",
    responses((status = 204, description = "It is gone"), Caller, Refused<404>, Refused<409>, Refused<503>)
)]
#[delete("/containers/<name>")]
async fn remove(_caller: Caller, trace: Trace, name: &str, spindown: &State<Arc<Spindown>>) -> Result<Status, Problem> {
    trace.follow(spindown.remove_container(name)).await?;
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
