//! A long time of mixed use: what the server holds stays flat, and nothing is left that nobody asked for. The suite runs
//! a short form; `make soak` an hour of it (`SPINDOWN_SOAK`), with a hundred containers.
#![expect(clippy::disallowed_methods, reason = "it goes on for a real while")]

use std::{
    collections::BTreeSet,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{Rng, seq::IndexedRandom};
use reqwest::Method;
use serde_json::Value;
use spindown::model::{birth, parse_duration};

use crate::support::{
    block::{Block, IMAGE},
    server::{Server, SshKey, run},
};

/// The short form: so long, so many containers.
const SHORT: (Duration, usize) = (Duration::from_secs(40), 6);
/// How many containers `make soak` keeps, unless `SPINDOWN_SOAK_CONTAINERS` says otherwise.
const LONG: usize = 100;
/// How many callers there are.
const CALLERS: usize = 3;
/// How long a caller thinks.
const THINKS: std::ops::Range<u64> = 50..400;
/// What the memory of a server may grow by over the last half and still count as flat: allocators keep some back.
const GROWTH: (f64, u64) = (1.2, 8 << 10);
/// What it may hold at all, passwords that are being checked included.
const MOST_KIB: u64 = 128 << 10;
/// Connections and timers come and go.
const SLACK: u64 = 8;

/// What was done, and what came of it.
#[derive(Default)]
struct Tally {
    done: AtomicUsize,
    created: AtomicUsize,
    checked_in: AtomicUsize,
    stopped_idle: AtomicUsize,
    slowest_ms: AtomicU64,
}

/// What the server's process holds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    memory_kib: u64,
    descriptors: u64,
    threads: u64,
}

impl Sample {
    fn take(server: &Server) -> Self {
        let (memory, descriptors) = (server.memory(), server.descriptors() as u64);
        Self { memory_kib: memory >> 10, descriptors, threads: server.threads() }
    }
}

/// The middle of one figure.
fn median(samples: &[Sample], figure: impl Fn(&Sample) -> u64) -> u64 {
    let mut figures: Vec<u64> = samples.iter().map(figure).collect();
    figures.sort_unstable();
    figures[figures.len() / 2]
}

/// How long, and with how many containers.
fn extent() -> (Duration, usize) {
    let Ok(text) = std::env::var("SPINDOWN_SOAK") else { return SHORT };
    let number = std::env::var("SPINDOWN_SOAK_CONTAINERS").map_or(LONG, |text| text.parse().unwrap());
    (parse_duration(&text).unwrap(), number)
}

/// One soak: the server, and what is done to it.
struct Soak {
    server: Server,
    key: SshKey,
    containers: usize,
    tally: Tally,
}

impl Soak {
    /// Calls, and sees that the answer is one of those that this may have.
    async fn call(&self, method: Method, path: &str, body: &str, may: &[u16]) -> Value {
        let begun = Instant::now();
        let answer = self.server.call(method.clone(), path, body).await;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
        self.tally.slowest_ms.fetch_max(took, Ordering::Relaxed);
        self.tally.done.fetch_add(1, Ordering::Relaxed);
        assert!(may.contains(&answer.status), "{method} {path} {body}: {} {:#}", answer.status, answer.json);
        answer.json
    }

    async fn all(&self) -> Vec<Value> {
        let all = self.call(Method::GET, "/v1/containers", "", &[200]).await;
        all.as_array().unwrap().clone()
    }

    /// Does one thing, whatever it is.
    async fn act(&self, random: &mut impl Rng) {
        let all = self.all().await;
        let any = all.choose(random).cloned();
        let Some(any) = any.filter(|_| all.len() >= self.containers) else { return self.create(random).await };
        let uri = any["uri"].as_str().unwrap();
        let running = any["status"] == "running";
        match random.random_range(0..100) {
            0..8 => {
                self.call(Method::DELETE, uri, "", &[204, 404]).await;
            }
            8..20 => {
                self.call(Method::PATCH, uri, "status=stopped", &[200, 404, 409]).await;
            }
            20..40 => {
                self.call(Method::PATCH, uri, "status=running", &[200, 404, 409]).await;
            }
            40..48 => {
                self.call(Method::PATCH, uri, "labels=soak%3Dyes&idle_timeout=20s", &[200, 404, 409]).await;
            }
            48..60 if running => self.check_in(&any).await,
            60..64 if running => self.log_in(&any).await,
            64..70 => self.meddle(&any, random).await,
            70..80 => self.misbehave(uri).await,
            80..90 => {
                self.call(Method::GET, &format!("{uri}/activity"), "", &[200, 404]).await;
            }
            _ => {
                self.call(Method::GET, uri, "", &[200, 404]).await;
            }
        }
        if any["stopped_by"] == "idle" {
            self.tally.stopped_idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn create(&self, random: &mut impl Rng) {
        // Half of them are idle soon.
        let timeout = if random.random() { "10s" } else { "1h" };
        let body = format!("image={IMAGE}&idle_timeout={timeout}&authorized_keys={}", self.key.encoded());
        self.call(Method::POST, "/v1/containers", &body, &[201]).await;
        self.tally.created.fetch_add(1, Ordering::Relaxed);
    }

    /// Has a container report, as its cron does.
    async fn check_in(&self, container: &Value) {
        if self.docker(&["exec", container["container_id"].as_str().unwrap(), "spindown-check-in"]).await {
            self.tally.checked_in.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn log_in(&self, container: &Value) {
        let mut ssh = tokio::process::Command::from(self.key.ssh(container["ssh_port"].as_str().unwrap(), &["id"]));
        // It may be stopped meanwhile.
        let _ = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status().await;
    }

    /// Does something behind the server's back.
    async fn meddle(&self, container: &Value, random: &mut impl Rng) {
        let id = container["container_id"].as_str().unwrap();
        let deed: &[&str] = match random.random_range(0..4) {
            0 => &["kill", id],
            1 => &["start", id],
            2 => &["stop", "-t", "1", id],
            _ => &["rm", "-f", "-v", id],
        };
        self.docker(deed).await;
    }

    async fn docker(&self, arguments: &[&str]) -> bool {
        let mut docker = tokio::process::Command::new("docker");
        let status = docker.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status();
        status.await.unwrap().success()
    }

    /// Asks for what cannot be.
    async fn misbehave(&self, uri: &str) {
        self.call(Method::POST, "/v1/containers", "image=no/such", &[422]).await;
        self.call(Method::POST, "/v1/containers", "{\"image\": 1", &[400]).await;
        self.call(Method::PATCH, uri, "status=asleep", &[400, 404]).await;
        self.call(Method::GET, "/v1/containers/nobody", "", &[404]).await;
        let stranger = self.server.request(Method::GET, "/v1/containers", "").basic_auth("admin", Some("wrong"));
        assert_eq!(self.server.send(stranger).await.status, 401);
    }

    /// Removes all, and sees that nothing is left of them.
    async fn clear(&self, block: &Block) {
        for container in self.all().await {
            self.call(Method::DELETE, container["uri"].as_str().unwrap(), "", &[204, 404]).await;
        }
        let label = format!("label={}={}", birth::MANAGED, block.instance());
        assert_eq!(run("docker", &["ps", "-aq", "--filter", &label]), "", "no container is left");
        assert_eq!(self.all().await.len(), 0);
    }
}

#[tokio::test]
async fn end_to_end_use_goes_on_and_nothing_grows() {
    let (span, containers) = extent();
    let block = Arc::new(if containers > 20 { Block::take_wide() } else { Block::take() });
    // Each port is needed: one that is lost sight of shows at the end.
    let (first, last) = (block.ports().0, block.ports().0 + u16::try_from(containers + CALLERS).unwrap());
    let settings = [
        ("SPINDOWN_IDLE_SWEEP", "1s"),
        ("SPINDOWN_IDLE_STOP_GRACE", "2s"),
        ("SPINDOWN_PORTS_FIRST", &first.to_string()),
        ("SPINDOWN_PORTS_LAST", &last.to_string()),
        ("SPINDOWN_LIMITS_MEMORY", "96m"),
    ];
    let server = Server::try_start(Arc::clone(&block), &settings).unwrap();
    let (key, tally) = (SshKey::make(), Tally::default());
    let soak = Arc::new(Soak { server, key, containers, tally });
    let end = Instant::now() + span;

    let callers = (0..CALLERS).map(|_| {
        let soak = Arc::clone(&soak);
        tokio::spawn(async move {
            while Instant::now() < end {
                let mut random = <rand::rngs::StdRng as rand::SeedableRng>::from_os_rng();
                soak.act(&mut random).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(THINKS))).await;
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut samples = Vec::new();
    let mut told = Instant::now();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(500)).await;
        samples.push(Sample::take(&soak.server));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!("{:?} left: {:?}", end - told.min(end), samples.last().unwrap());
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    soak.server.wait_for("/health", "well", |a| a.status == 200).await;
    soak.clear(&block).await;

    // What is under way ends; connections that nobody uses are closed after 15 seconds.
    let (baseline, quarter) = (median(&samples[..4], |s| s.descriptors), samples.len() / 4);
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let memory = |samples: &[Sample]| median(samples, |s| s.memory_kib);
    let threads = |samples: &[Sample]| median(samples, |s| s.threads);
    let deadline = Instant::now() + Duration::from_secs(30);
    while Sample::take(&soak.server).descriptors > baseline + SLACK && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = Sample::take(&soak.server);
    let tally = &soak.tally;
    println!(
        "{span:?} at {containers} containers: {:?} requests, {:?} created, {:?} check-ins, {:?} seen stopped idle, the \
         slowest answer {:?} ms; memory {} then {} KiB, threads {} then {}, descriptors {baseline} then {}",
        tally.done,
        tally.created,
        tally.checked_in,
        tally.stopped_idle,
        tally.slowest_ms,
        memory(early),
        memory(late),
        threads(early),
        threads(late),
        after.descriptors
    );
    assert!(memory(late) <= MOST_KIB, "it takes too much memory");
    assert!(memory(late) as f64 <= memory(early) as f64 * GROWTH.0 + GROWTH.1 as f64, "memory grows");
    assert!(threads(late) <= threads(early) + SLACK, "threads grow");
    assert!(after.descriptors <= baseline + SLACK, "descriptors are left: {after:?}");
    assert!(tally.created.load(Ordering::Relaxed) >= containers && tally.done.load(Ordering::Relaxed) > containers);

    // Nothing went wrong inside, and every port can be handed out again.
    let log = soak.server.log();
    let wrong: Vec<_> = log.lines().filter(|l| l.contains("\"ERROR\"") || l.contains("panicked")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ports: BTreeSet<u64> = (first..=last).map(u64::from).collect();
    join_all(ports.iter().map(|_| async { soak.create(&mut rand::rng()).await })).await;
    let held: BTreeSet<u64> = soak.all().await.iter().map(|c| c["ports"][0]["host_port"].as_u64().unwrap()).collect();
    assert_eq!(held, ports);
    soak.clear(&block).await;
}
