//! `/health`, open to all.

use std::{collections::BTreeMap, sync::Arc};

use rocket::{Route, State, get, http::Status, routes, serde::json::Json};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{http::request::Trace, service::Spindown};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![health]
}

#[derive(OpenApi)]
#[openapi(paths(health))]
pub(in crate::http) struct Docs;

/// Whether the parts work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
struct HealthView {
    /// `ok` or `failing`.
    #[schema(pattern = "^(ok|failing)$")]
    status: &'static str,
    /// Each part by its name.
    checks: BTreeMap<&'static str, CheckView>,
}

/// Whether one part works.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Check)]
struct CheckView {
    /// Whether it works.
    ok: bool,
    /// Why it does not; with a part that works, what may be wrong all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Tells whether each part works. It is looked at once a second at most.
#[utoipa::path(responses(
    (status = 200, description = "All of them work", body = HealthView),
    (status = 503, description = "One of them does not", body = HealthView),
))]
#[get("/health")]
async fn health(trace: Trace, spindown: &State<Arc<Spindown>>) -> (Status, Json<HealthView>) {
    let checks = trace.follow(spindown.health()).await;
    let well = checks.iter().all(|c| c.problem.is_none());
    let (code, status) = if well { (Status::Ok, "ok") } else { (Status::ServiceUnavailable, "failing") };
    let checks =
        checks.into_iter().map(|c| (c.part, CheckView { ok: c.problem.is_none(), message: c.problem.or(c.doubt) }));
    let checks = checks.collect();
    (code, Json(HealthView { status, checks }))
}
