//! `/v1/check-in`: a container's own report. It needs no credentials: the source address names the container.

use std::{net::SocketAddr, sync::Arc};

use rocket::{Route, State, http::Status, post, routes};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    http::{
        fields::{Fields, SmallFields},
        openapi::{Amount, Refused},
        problem::Problem,
    },
    model::{Error, Result},
    service::Spindown,
};

/// The documented field, and the one that real scripts send.
const NAMES: [&str; 2] = ["active-connections", "active"];

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![check_in]
}

#[derive(OpenApi)]
#[openapi(paths(check_in))]
pub(in crate::http) struct Docs;

/// A report: one of the two, a whole number of 0 or more.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "described, and never made")]
#[serde(deny_unknown_fields)]
struct CheckIn {
    /// How many connections the container has.
    #[serde(rename = "active-connections")]
    active_connections: Option<Amount>,
    /// The same, as scripts call it.
    active: Option<Amount>,
}

/// Takes a container's report of its connections.
///
/// It needs no credentials: the source address names the container. It is served at the gateway of the containers'
/// network, too, where nothing else is.
#[utoipa::path(
    request_body = CheckIn,
    responses((status = 204, description = "It is noted"), SmallFields, Refused<404>, Refused<429>, Refused<503>)
)]
#[post("/check-in", data = "<fields>")]
async fn check_in(peer: SocketAddr, fields: SmallFields, spindown: &State<Arc<Spindown>>) -> Result<Status, Problem> {
    let connections = connections(fields.0)?;
    spindown.check_in(peer.ip(), connections)?;
    Ok(Status::NoContent)
}

/// The number of connections reported.
fn connections(mut fields: Fields) -> Result<u64> {
    let given: Vec<&str> = NAMES.into_iter().filter(|name| fields.has(name)).collect();
    let [name] = given[..] else {
        return Err(Error::invalid("active-connections: give the number of connections, once"));
    };
    let text = fields.scalar(name)?.unwrap_or_default();
    fields.finish(&NAMES)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let count = text.parse().ok().filter(|_| digits);
    count.ok_or_else(|| Error::invalid(format!("{name}: must be a whole number of 0 or more, not {text:?}")))
}
