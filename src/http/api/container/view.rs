//! What a caller sees of a container.

use std::collections::BTreeMap;

use rocket::{
    Request,
    http::{Header, Status as HttpStatus},
    response::{self, Responder},
    serde::json::Json,
};
use serde::Serialize;

use crate::{
    http::{api::date, problem::Problem},
    model::{Port, Status},
    policy::idle::Verdict,
    service::{
        activity::ActivityReport,
        container::{Outcome, Report},
    },
};

/// A container: the documented members first, then ours.
#[derive(Debug, Serialize)]
pub(super) struct ContainerView {
    status: &'static str,
    name: String,
    active: String,
    ssh_port: String,
    image: String,
    container_id: String,
    uri: String,
    app_port: String,
    id: String,
    ports: Vec<PortView>,
    host: String,
    owner: String,
    labels: BTreeMap<String, String>,
    created_at: String,
    last_active_at: Option<String>,
    idle_timeout: Option<u64>,
    stops_at: Option<String>,
    stopped_by: Option<&'static str>,
    exit_code: Option<i64>,
    ssh_host_keys: Vec<String>,
    disk: Option<DiskView>,
    volumes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct DiskView {
    bytes: u64,
    measured_at: String,
}

#[derive(Debug, Serialize)]
struct PortView {
    container_port: u16,
    host_port: u16,
    protocol: &'static str,
}

impl From<Report> for ContainerView {
    fn from(report: Report) -> Self {
        let Report { container, status, exit_code, connections, last_active_at, stops_at, disk, volumes } = report;
        // The documented ports are those one can connect to now; `ports` has them always.
        let open = matches!(status, Status::Running | Status::Frozen | Status::Stopping);
        let shown = |port: Option<u16>| port.filter(|_| open).map_or_else(String::new, |p| p.to_string());
        let down = matches!(status, Status::Stopped | Status::Missing);
        Self {
            status: status.as_str(),
            name: format!("/{}", container.name),
            active: connections.to_string(),
            ssh_port: shown(Port::ssh(&container.ports)),
            app_port: shown(Port::app(&container.ports)),
            uri: format!("/v1/containers/{}", container.engine_id),
            container_id: container.engine_id.to_string(),
            image: container.image,
            id: container.id.to_string(),
            ports: container
                .ports
                .iter()
                .map(|p| PortView { container_port: p.container, host_port: p.host, protocol: p.protocol.as_str() })
                .collect(),
            host: container.host.as_str().to_owned(),
            owner: container.owner,
            labels: container.labels,
            created_at: date(container.created_at),
            last_active_at: last_active_at.map(date),
            idle_timeout: container.idle_timeout.seconds(),
            stops_at: stops_at.map(date),
            stopped_by: container.stopped.filter(|_| down).map(|s| s.by.as_str()),
            exit_code,
            ssh_host_keys: container.ssh_host_keys,
            disk: disk.map(|d| DiskView { bytes: d.bytes, measured_at: date(d.at.at) }),
            volumes: volumes.into_iter().map(|(at, name)| (at.as_str().to_owned(), name.to_string())).collect(),
        }
    }
}

/// A container that was just made.
pub(super) struct Created(pub ContainerView);

impl<'r> Responder<'r, 'static> for Created {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let location = Header::new("Location", self.0.uri.clone());
        let mut response = Json(self.0).respond_to(request)?;
        response.set_status(HttpStatus::Created);
        response.set_header(location);
        Ok(response)
    }
}

/// What came of a bulk action for one container.
#[derive(Debug, Serialize)]
pub(super) struct OutcomeView {
    id: String,
    name: String,
    status: Option<&'static str>,
    error: Option<RefusalView>,
}

#[derive(Debug, Serialize)]
struct RefusalView {
    status: u16,
    message: String,
}

impl From<Outcome> for OutcomeView {
    fn from(outcome: Outcome) -> Self {
        let (status, error) = match outcome.result {
            Ok(Some(status)) => (Some(status.as_str()), None),
            Ok(None) => (Some("deleted"), None),
            Err(error) => {
                let problem = Problem::from(error);
                (None, Some(RefusalView { status: problem.status(), message: problem.message().to_owned() }))
            }
        };
        Self { id: outcome.id.to_string(), name: format!("/{}", outcome.name), status, error }
    }
}

/// Why a container is up or down, and what comes next.
#[derive(Debug, Serialize)]
pub(super) struct ActivityView {
    id: String,
    status: &'static str,
    idle_timeout: Option<u64>,
    evidence: Vec<EvidenceView>,
    verdict: &'static str,
    reason: String,
    changes_at: Option<String>,
    stop_failures: Option<StopFailuresView>,
}

#[derive(Debug, Serialize)]
struct EvidenceView {
    sign: &'static str,
    activity: bool,
    at: String,
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
}

#[derive(Debug, Serialize)]
struct StopFailuresView {
    count: u32,
    message: String,
    next_try_at: String,
}

impl From<ActivityReport> for ActivityView {
    fn from(report: ActivityReport) -> Self {
        let evidence = report.evidence.into_iter().map(|seen| EvidenceView {
            sign: seen.sign.as_str(),
            activity: seen.sign.is_activity(),
            at: date(seen.at),
            age_seconds: seen.age.as_secs(),
            connections: seen.connections,
        });
        Self {
            id: report.id.to_string(),
            status: report.status.as_str(),
            idle_timeout: report.idle_timeout.seconds(),
            evidence: evidence.collect(),
            verdict: match report.verdict {
                Verdict::Keep => "keep",
                Verdict::Sleep => "sleep",
            },
            reason: report.reason,
            changes_at: report.changes_at.map(date),
            stop_failures: report.trouble.map(|t| StopFailuresView {
                count: t.failures,
                message: t.message,
                next_try_at: date(t.next_try_at),
            }),
        }
    }
}
