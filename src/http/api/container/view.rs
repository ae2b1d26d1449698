//! What a caller sees of a container.

use std::collections::BTreeMap;

use rocket::{
    Request,
    http::{Header, Status as HttpStatus},
    response::{self, Responder},
    serde::json::Json,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema::{ProtocolWord, SignWord, StatusWord, StepWord, StoppedByWord, VerdictWord, WakeWord};
use crate::{
    http::{
        api::{date, event::HappenedView},
        problem::Problem,
    },
    model::{Port, Status},
    service::{
        activity::ActivityReport,
        container::{Outcome, Report},
    },
};

/// A container: the documented members first, then ours.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Container)]
pub(super) struct ContainerView {
    /// What it is doing; `missing`: removed behind Spindown's back.
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// Its name with a slash before it.
    #[schema(pattern = "^/")]
    name: String,
    /// The connections it reported last, as text; `"0"` while it is down.
    #[schema(pattern = "^[0-9]+$")]
    active: String,
    /// The host's port that leads to its port 22, as text; empty while it is down or if there is none.
    #[schema(pattern = "^[0-9]*$")]
    ssh_port: String,
    /// As it was named at the creation.
    image: String,
    /// The engine's id.
    container_id: String,
    /// Where it is shown.
    #[schema(pattern = "^/v1/containers/")]
    uri: String,
    /// The same as `ssh_port` for the lowest other port.
    #[schema(pattern = "^[0-9]*$")]
    app_port: String,
    /// Spindown's id.
    id: String,
    /// All published ports, also while it is down.
    ports: Vec<PortView>,
    /// The engine it is on.
    host: String,
    /// Who made it.
    owner: String,
    /// The labels it was given.
    labels: BTreeMap<String, String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// The last sign of use; null if none is known.
    #[schema(format = DateTime, required)]
    last_active_at: Option<String>,
    /// In seconds; null for never.
    #[schema(required)]
    idle_timeout: Option<u64>,
    /// After how many seconds of idleness it is frozen; null for never, as with the next three.
    #[schema(required)]
    freeze_after: Option<u64>,
    /// How many seconds it may be down before it is deleted.
    #[schema(required)]
    delete_after: Option<u64>,
    /// How many seconds it may be up at a stretch.
    #[schema(required)]
    max_age: Option<u64>,
    /// How many seconds before a stop whoever is logged in is told.
    #[schema(required)]
    warn_before: Option<u64>,
    /// The timetables during which nothing sleeps.
    keep_awake: Vec<String>,
    /// What counts as use: for each source `on`, `off`, `auto`, or from when on.
    evidence: BTreeMap<&'static str, String>,
    /// Until when it is kept up by request; null if it is not.
    #[schema(format = DateTime, required)]
    kept_until: Option<String>,
    /// For what it wakes when it is down.
    #[schema(value_type = WakeWord)]
    wake: &'static str,
    /// When it is due to be stopped if nothing more happens; null if it is not.
    #[schema(format = DateTime, required)]
    stops_at: Option<String>,
    /// Who or what brought it down; null while it is up, or if that is not known.
    #[schema(value_type = Option<StoppedByWord>, required)]
    stopped_by: Option<&'static str>,
    /// While it is down: what its main process ended with.
    #[schema(required)]
    exit_code: Option<i64>,
    /// The SHA-256 fingerprints of its SSH host keys; empty until they are known.
    ssh_host_keys: Vec<String>,
    /// What it takes of the disk; null until it was measured.
    #[schema(required)]
    disk: Option<DiskView>,
    /// The names of its volumes by mount point; empty while it is missing.
    volumes: BTreeMap<String, String>,
}

/// What a container takes of the disk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DiskUse)]
struct DiskView {
    /// What it has written over its image.
    bytes: u64,
    /// When that was measured.
    #[schema(format = DateTime)]
    measured_at: String,
}

/// A published port.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Port)]
struct PortView {
    /// The port inside.
    container_port: u16,
    /// The host's port that leads there.
    host_port: u16,
    /// How.
    #[schema(value_type = ProtocolWord)]
    protocol: &'static str,
}

impl From<Report> for ContainerView {
    fn from(report: Report) -> Self {
        let Report { container, status, exit_code, connections, last_active_at, ladder, stops_at, disk, volumes } =
            report;
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
            freeze_after: ladder.freeze_after.seconds(),
            delete_after: ladder.delete_after.seconds(),
            max_age: ladder.max_age.seconds(),
            warn_before: ladder.warn_before.seconds(),
            keep_awake: ladder.keep_awake.iter().map(ToString::to_string).collect(),
            evidence: ladder.evidence.effective(),
            kept_until: container.kept_until.map(date),
            wake: container.wake.as_str(),
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
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Outcome)]
pub(super) struct OutcomeView {
    /// Spindown's id of the container.
    id: String,
    /// Its name with a slash before it.
    name: String,
    /// What it is doing now, or `deleted`; null if it failed.
    #[schema(required)]
    status: Option<&'static str>,
    /// Why it failed; null if it did not.
    #[schema(required)]
    error: Option<RefusalView>,
}

/// Why an action failed for one container.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
struct RefusalView {
    /// The status with which it alone would have been answered.
    status: u16,
    /// What is wrong, for people.
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
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Activity)]
pub(super) struct ActivityView {
    /// Spindown's id of the container.
    id: String,
    /// As shown with the container.
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// In seconds; null for never.
    #[schema(required)]
    idle_timeout: Option<u64>,
    /// After how many seconds of idleness it is frozen; null for never, as with the next two.
    #[schema(required)]
    freeze_after: Option<u64>,
    /// How many seconds it may be down before it is deleted.
    #[schema(required)]
    delete_after: Option<u64>,
    /// How many seconds it may be up at a stretch.
    #[schema(required)]
    max_age: Option<u64>,
    /// Until when it is kept up by request; null if it is not.
    #[schema(format = DateTime, required)]
    kept_until: Option<String>,
    /// Whether Spindown sees for itself what goes on in it.
    seen: bool,
    /// The latest sign of each kind, the latest first.
    evidence: Vec<EvidenceView>,
    /// What follows from it.
    #[schema(value_type = VerdictWord)]
    verdict: &'static str,
    /// In one sentence.
    reason: String,
    /// When it is due to be stopped if nothing more happens; null if it is not.
    #[schema(format = DateTime, required)]
    changes_at: Option<String>,
    /// What it does next if nothing more happens; null if that is nothing.
    #[schema(required)]
    next: Option<NextView>,
    /// How many freezes in a row have met somebody: its time before the next doubles with each.
    false_freezes: u32,
    /// Whether a connection to one of its TCP ports wakes it now.
    wakes: bool,
    /// What happened to it last, the latest first, 32 entries at most; since the server began.
    history: Vec<HappenedView>,
    /// A stop that failed and is tried again, if there is one.
    #[schema(required)]
    stop_failures: Option<StopFailuresView>,
}

/// The next step down.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Next)]
struct NextView {
    /// Which.
    #[schema(value_type = StepWord)]
    step: &'static str,
    /// When it is due.
    #[schema(format = DateTime)]
    at: String,
}

/// One sign of use, or of life.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Evidence)]
struct EvidenceView {
    /// Its kind.
    #[schema(value_type = SignWord)]
    sign: &'static str,
    /// Whether it counts as use.
    activity: bool,
    /// When it was seen.
    #[schema(format = DateTime)]
    at: String,
    /// How long ago that is.
    age_seconds: u64,
    /// Only with a check-in: the number reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
}

/// A stop that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StopFailures)]
struct StopFailuresView {
    /// Failures in a row.
    count: u32,
    /// What the last one was.
    message: String,
    /// When it is tried again.
    #[schema(format = DateTime)]
    next_try_at: String,
}

impl From<ActivityReport> for ActivityView {
    fn from(report: ActivityReport) -> Self {
        let evidence = report.evidence.into_iter().map(|seen| EvidenceView {
            sign: seen.sign.as_str(),
            activity: seen.counts,
            at: date(seen.at),
            age_seconds: seen.age.as_secs(),
            connections: seen.connections,
        });
        Self {
            id: report.id.to_string(),
            status: report.status.as_str(),
            idle_timeout: report.idle_timeout.seconds(),
            freeze_after: report.ladder.freeze_after.seconds(),
            delete_after: report.ladder.delete_after.seconds(),
            max_age: report.ladder.max_age.seconds(),
            kept_until: report.kept_until.map(date),
            seen: report.seen,
            evidence: evidence.collect(),
            verdict: report.verdict.as_str(),
            reason: report.reason,
            changes_at: report.changes_at.map(date),
            next: report.next.map(|(step, at)| NextView { step: step.as_str(), at: date(at) }),
            false_freezes: report.false_freezes,
            wakes: report.wakes,
            history: report.history.into_iter().map(|(at, what)| HappenedView::new(at, what)).collect(),
            stop_failures: report.trouble.map(|t| StopFailuresView {
                count: t.failures,
                message: t.message,
                next_try_at: date(t.next_try_at),
            }),
        }
    }
}
