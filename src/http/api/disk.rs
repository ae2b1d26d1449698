//! `/v1/disk`.

use std::sync::Arc;

use rocket::{Route, State, get, routes, serde::json::Json};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::date;
use crate::{
    http::{auth::Caller, openapi::Refused, problem::Problem, request::Trace},
    service::{Spindown, disk::DiskReport},
};

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![show]
}

/// The room on the disk, and what containers take of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Disk)]
struct DiskView {
    /// What is left, in bytes; null if it cannot be told.
    #[schema(required)]
    free: Option<u64>,
    /// What the disk holds, in bytes; null if it cannot be told.
    #[schema(required)]
    total: Option<u64>,
    /// What must be left for another container to be made.
    reserve: u64,
    /// All containers together.
    containers: ContainersView,
    /// The largest ones, the largest first.
    largest: Vec<LargeView>,
}

/// What all containers take together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContainersDisk)]
struct ContainersView {
    /// How many there are.
    count: usize,
    /// How many of them have been measured.
    measured: usize,
    /// What those take.
    bytes: u64,
}

/// What a large container takes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LargeContainer)]
struct LargeView {
    /// Spindown's id of it.
    id: String,
    /// Its name with a slash before it.
    name: String,
    /// What it has written over its image.
    bytes: u64,
    /// When that was measured.
    #[schema(format = DateTime)]
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

#[derive(OpenApi)]
#[openapi(paths(show))]
pub(in crate::http) struct Docs;

/// Tells the room on the disk, and what containers take of it.
#[utoipa::path(
    operation_id = "show_disk",
    responses((status = 200, description = "As last measured", body = DiskView), Caller, Refused<503>)
)]
#[get("/disk")]
async fn show(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> Result<Json<DiskView>, Problem> {
    Ok(Json(trace.follow(spindown.disk()).await?.into()))
}
