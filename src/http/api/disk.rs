//! `/v1/disk`.

use std::sync::Arc;

use rocket::{Route, State, get, routes, serde::json::Json};
use serde::Serialize;

use super::date;
use crate::{
    http::{auth::Caller, problem::Problem, request::Trace},
    service::{Spindown, disk::DiskReport},
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![show]
}

/// The room on the disk, and what containers take of it.
#[derive(Debug, Serialize)]
struct DiskView {
    free: Option<u64>,
    total: Option<u64>,
    reserve: u64,
    containers: ContainersView,
    largest: Vec<LargeView>,
}

#[derive(Debug, Serialize)]
struct ContainersView {
    count: usize,
    measured: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct LargeView {
    id: String,
    name: String,
    bytes: u64,
    measured_at: String,
}

impl From<DiskReport> for DiskView {
    fn from(report: DiskReport) -> Self {
        let DiskReport { space, reserve, containers, measured, bytes, largest } = report;
        let large = largest.into_iter().map(|(container, found)| LargeView {
            id: container.id.to_string(),
            name: format!("/{}", container.name),
            bytes: found.bytes,
            measured_at: date(found.at.at),
        });
        Self {
            free: space.map(|s| s.free),
            total: space.map(|s| s.total),
            reserve,
            containers: ContainersView { count: containers, measured, bytes },
            largest: large.collect(),
        }
    }
}

#[get("/disk")]
async fn show(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> Result<Json<DiskView>, Problem> {
    Ok(Json(trace.follow(spindown.disk()).await?.into()))
}
