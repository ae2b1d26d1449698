//! `/v1/images`.

use std::sync::Arc;

use rocket::{Route, State, get, routes, serde::json::Json};
use utoipa::OpenApi;

use crate::{
    http::{auth::Caller, openapi::Refused, problem::Problem, request::Trace},
    service::Spindown,
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![list]
}

#[derive(OpenApi)]
#[openapi(paths(list))]
pub(in crate::http) struct Docs;

/// Lists the tags of all images on the engine.
#[utoipa::path(
    operation_id = "list_images",
    responses((status = 200, description = "The tags", body = [String]), Caller, Refused<503>)
)]
#[get("/images")]
async fn list(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> Result<Json<Vec<String>>, Problem> {
    Ok(Json(trace.follow(spindown.images()).await?))
}
