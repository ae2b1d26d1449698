//! What is measured: every metric's name and meaning in one table, and the recorder that keeps the numbers of this
//! process for `/metrics`. Whoever does something counts it where it is done.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{clock::Stopwatch, model::Result};

/// Check-ins by what became of them: `outcome` is `taken`, `refused` (not a running container's address) or `too_many`.
pub const CHECK_INS: &str = "spindown_check_ins_total";
/// Verdicts of the sweeps: `verdict` is `keep`, `freeze`, `sleep` or `delete`.
pub const VERDICTS: &str = "spindown_verdicts_total";
/// Stops ordered here: `by` is `idle`, `age` or `user`; `outcome` is `done`, `failed` (it is tried again) or `withdrawn`.
pub const STOPS: &str = "spindown_stops_total";
/// Connections at the door by what became of them: `outcome` is `carried`, `silent` (no demand, and so nothing was woken),
/// `refused` (the container does not wake, or not now) or `lost` (it did not come to accept the connection).
pub const DOOR: &str = "spindown_door_connections_total";
/// How long a connection that was carried waited for its container, in seconds.
pub const WAKE: &str = "spindown_wake_seconds";
/// Connections that are carried now.
pub const CARRIED: &str = "spindown_carried_connections";
/// Freezes that met somebody soon after: what was frozen should not have been.
pub const FALSE_SLEEPS: &str = "spindown_false_sleeps_total";
/// How long it took to let a frozen container go on for whoever came for it, in seconds.
pub const THAW: &str = "spindown_thaw_seconds";
/// How long it takes to look into all containers that are up, in seconds.
pub const LOOK: &str = "spindown_look_seconds";
/// Events by their word.
pub const EVENTS: &str = "spindown_events_total";
/// Containers by `status`.
pub const CONTAINERS: &str = "spindown_containers";
/// Containers whose signs of use are not in the store yet.
pub const UNFLUSHED: &str = "spindown_unflushed_touches";
/// Whether each `part` works, as `/health` tells it: 1 or 0.
pub const PART_UP: &str = "spindown_part_up";
/// Calls of the engine in seconds, by `call` and `outcome` (`ok`, or the kind of the error).
pub const ENGINE_CALL: &str = "spindown_engine_call_seconds";
/// Calls of the store in seconds, by `call` and `outcome`.
pub const STORE_CALL: &str = "spindown_store_call_seconds";
/// How long a sweep takes to judge all containers, in seconds.
pub const SWEEP: &str = "spindown_sweep_seconds";
/// How long ago the last sweep was, in seconds.
pub const SWEEP_AGE: &str = "spindown_sweep_age_seconds";
/// Requests in seconds, by `method`, `route` and `status`; of streams, until they begin.
pub const REQUEST: &str = "spindown_request_seconds";
/// The memory that the server's process has in RAM, in bytes.
pub const MEMORY: &str = "process_resident_memory_bytes";
/// The files and sockets that it has open.
pub const OPEN_FILES: &str = "process_open_fds";

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often how much.
    Histogram,
}

/// Every metric, with what `/metrics` tells of it.
pub const METRICS: [(&str, Form, &str); 20] = [
    (CONTAINERS, Form::Gauge, "Containers by status."),
    (CHECK_INS, Form::Counter, "Check-ins by what became of them."),
    (VERDICTS, Form::Counter, "Verdicts of the sweeps."),
    (STOPS, Form::Counter, "Stops ordered here, by who ordered them and what became of them."),
    (DOOR, Form::Counter, "Connections at the door by what became of them."),
    (WAKE, Form::Histogram, "How long a connection that was carried waited for its container."),
    (CARRIED, Form::Gauge, "Connections that are carried now."),
    (FALSE_SLEEPS, Form::Counter, "Freezes that met somebody soon after."),
    (THAW, Form::Histogram, "How long it took to let a frozen container go on for whoever came."),
    (LOOK, Form::Histogram, "How long it takes to look into all containers that are up."),
    (EVENTS, Form::Counter, "Events by their word."),
    (SWEEP, Form::Histogram, "How long a sweep takes to judge all containers."),
    (SWEEP_AGE, Form::Gauge, "How long ago the last sweep was."),
    (UNFLUSHED, Form::Gauge, "Containers whose signs of use are not in the store yet."),
    (ENGINE_CALL, Form::Histogram, "Calls of the engine."),
    (STORE_CALL, Form::Histogram, "Calls of the store."),
    (REQUEST, Form::Histogram, "Requests; of streams, until they begin."),
    (PART_UP, Form::Gauge, "Whether each part works, as /health tells it."),
    (MEMORY, Form::Gauge, "The memory that the process has in RAM."),
    (OPEN_FILES, Form::Gauge, "The files and sockets that the process has open."),
];

/// The bounds of the histograms' buckets, in seconds: from a read of memory to the longest deadline.
const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Puts the recorder in place, once for the whole process.
pub fn install() {
    recorder();
}

/// All of it, in the text format of Prometheus.
pub fn render() -> String {
    measure_process();
    recorder().render()
}

/// Sorts in what has been measured since. Without it the memory for that would grow until somebody asks.
pub fn tidy() {
    recorder().run_upkeep();
}

/// Notes how long a call took, and what came of it.
pub fn record_call<T>(metric: &'static str, call: &'static str, stopwatch: Stopwatch, outcome: &Result<T>) {
    let word = outcome.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
    metrics::histogram!(metric, "call" => call, "outcome" => word).record(stopwatch.elapsed().as_secs_f64());
}

fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            // The buckets are fixed and not empty, which is all that can be refused.
            let builder = PrometheusBuilder::new();
            let builder = builder.set_buckets(&BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics are recorded elsewhere in this process: /metrics stays empty");
            }
            // None has happened yet, which is worth knowing.
            metrics::counter!(FALSE_SLEEPS).increment(0);
            for (name, form, about) in METRICS {
                match form {
                    Form::Counter => metrics::describe_counter!(name, about),
                    Form::Gauge => metrics::describe_gauge!(name, about),
                    Form::Histogram => metrics::describe_histogram!(name, about),
                }
            }
            handle
        })
        .clone()
}

/// Linux tells of the process in `/proc`; where it does not, nothing is told here.
fn measure_process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    if let Some(kilobytes) = kilobytes {
        metrics::gauge!(MEMORY).set(kilobytes * 1_024.0);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the folder itself.
        metrics::gauge!(OPEN_FILES).set((open.count() as f64 - 1.0).max(0.0));
    }
}
