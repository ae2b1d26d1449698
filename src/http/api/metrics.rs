//! `/metrics`, for Prometheus.

use std::sync::Arc;

use rocket::{
    Route, State, get,
    http::{ContentType, MediaType},
    routes,
};
use utoipa::OpenApi;

use crate::{
    http::{auth::Caller, request::Trace},
    meter,
    service::Spindown,
};

/// The version of the text format that is told with it.
const VERSION: (&str, &str) = ("version", "0.0.4");

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![metrics]
}

#[derive(OpenApi)]
#[openapi(paths(metrics))]
pub(in crate::http) struct Docs;

/// Tells the figures of the server, for Prometheus.
#[utoipa::path(
    operation_id = "show_metrics",
    responses(
        (status = 200, description = "In the text format", body = String,
            content_type = "text/plain; version=0.0.4; charset=utf-8"),
        Caller,
    )
)]
#[get("/metrics")]
async fn metrics(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> (ContentType, String) {
    trace.follow(spindown.gauge()).await;
    (ContentType(MediaType::new("text", "plain").with_params([VERSION, ("charset", "utf-8")])), meter::render())
}
