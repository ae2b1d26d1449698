//! `/v1/check-in`: a container's own report. It needs no credentials: the source address names the container.

use std::{net::SocketAddr, sync::Arc};

use rocket::{Route, State, http::Status, post, routes};

use crate::{
    http::{
        fields::{Fields, SmallFields},
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
