//! `/v1/images`.

use std::sync::Arc;

use rocket::{Route, State, get, routes, serde::json::Json};

use crate::{
    http::{auth::Caller, problem::Problem, request::Trace},
    service::Spindown,
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![list]
}

#[get("/images")]
async fn list(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> Result<Json<Vec<String>>, Problem> {
    Ok(Json(trace.follow(spindown.images()).await?))
}
