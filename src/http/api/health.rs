//! `/health`, open to all.

use std::{collections::BTreeMap, sync::Arc};

use rocket::{Route, State, get, http::Status, routes, serde::json::Json};
use serde::Serialize;

use crate::{http::request::Trace, service::Spindown};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![health]
}

/// What is told of each part.
#[derive(Debug, Serialize)]
struct HealthView {
    status: &'static str,
    checks: BTreeMap<&'static str, CheckView>,
}

#[derive(Debug, Serialize)]
struct CheckView {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[get("/health")]
async fn health(trace: Trace, spindown: &State<Arc<Spindown>>) -> (Status, Json<HealthView>) {
    let checks = trace.follow(spindown.health()).await;
    let well = checks.iter().all(|c| c.problem.is_none());
    let (code, status) = if well { (Status::Ok, "ok") } else { (Status::ServiceUnavailable, "failing") };
    let checks =
        checks.into_iter().map(|c| (c.part, CheckView { ok: c.problem.is_none(), message: c.problem })).collect();
    (code, Json(HealthView { status, checks }))
}
