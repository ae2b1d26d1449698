//! A storm of everything at once over many containers, with checksums. The suite has a minute of it over forty;
//! `make soak` ten minutes over two hundred (`SPINDOWN_STORM`).

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use spindown::model::parse_duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::*;

/// So long, over so many containers.
const SHORT: (Duration, usize) = (Duration::from_secs(60), 40);
/// How many `make soak` has, unless `SPINDOWN_STORM_CONTAINERS` says otherwise.
const LONG: usize = 200;
/// Of so many one is meddled with; the others only sleep and wake.
const MEDDLED: usize = 4;
/// How idle they get before they are stopped.
const TIMEOUT: &str = "2s";
/// How many are made at once.
const AT_ONCE: usize = 8;
/// The longest thing that is said.
const LONGEST: usize = 300_000;

/// What came of it.
#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    bytes: AtomicUsize,
    /// Cut off by a stop.
    cut: AtomicUsize,
    meddled: AtomicUsize,
}

/// How long, and over how many.
fn extent() -> (Duration, usize) {
    let Ok(text) = std::env::var("SPINDOWN_STORM") else { return SHORT };
    let number = std::env::var("SPINDOWN_STORM_CONTAINERS").map_or(LONG, |text| text.parse().unwrap());
    (parse_duration(&text).unwrap(), number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_nobody_is_lost_and_nobody_meets_another() {
    let (span, containers) = extent();
    let block = Arc::new(Block::take_wide());
    let brew = parrot::brew(&block, "parrot", "", 0);
    let server = Server::try_start(block, &[SWEEPS, ("SPINDOWN_LIMITS_MEMORY", "32m")]).unwrap();
    let making = stream::iter(0..containers).map(|_| create(&server, &brew)).buffer_unordered(AT_ONCE);
    let made: Vec<Value> = making.collect().await;
    let (tally, end) = (Tally::default(), Instant::now() + span);
    join_all(made.into_iter().enumerate().map(|(number, made)| {
        let (server, brew, tally) = (&server, &brew, &tally);
        async move {
            if number % MEDDLED == 0 {
                meddle(server, brew, made, end, tally).await;
            } else {
                use_it(server, &made, containers as u64, end, tally).await;
            }
        }
    }))
    .await;
    let count = |one: &AtomicUsize| one.load(Ordering::Relaxed);
    let (served, cut) = (count(&tally.served), count(&tally.cut));
    println!(
        "{served} connections served, {} MiB repeated, {cut} cut off by a stop, {} times meddled with",
        count(&tally.bytes) >> 20,
        count(&tally.meddled)
    );
    assert!(served > containers, "{served} connections over {containers} containers are no storm");
    until_calm(&server, containers).await;
}

async fn create(server: &Server, brew: &Brew) -> Value {
    // The engine takes its time over many at once; some find no turn at first.
    let deadline = Instant::now() + 6 * SOON;
    loop {
        let made = server.post("/v1/containers", &format!("image={}&idle_timeout={TIMEOUT}", brew.0)).await;
        if made.status == 201 {
            until_up(&made.json).await;
            return made.json;
        }
        assert!(made.status == 503 && Instant::now() < deadline, "{:#}", made.json);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until one that was just made has begun to listen, whoever may have removed it since.
async fn until_up(made: &Value) {
    let deadline = Instant::now() + SOON;
    while tell(Some(stranger()), at(made, REPEATS), b"hello").await.is_err() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Comes now and then, sometimes with others, to one that nobody else touches: everybody is served, but whoever was
/// straight with one that was up, and had not been reported when it was found idle.
async fn use_it(server: &Server, container: &Value, containers: u64, end: Instant, tally: &Tally) {
    while Instant::now() < end {
        // The more there are, the longer each of them waits for its turn to be started.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..125 * containers))).await;
        let visits = (0..rand::rng().random_range(1..5)).map(|_| visit(container));
        for visit in join_all(visits).await {
            match visit.outcome {
                Ok(()) => note(tally, visit.said),
                Err(error) => {
                    let cut = was_cut_off(server, container, visit.begun).await;
                    assert!(cut, "{error} at {} of {container:#}\n{}", visit.begun, server.log());
                    tally.cut.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The same, with all that can be done to a container meanwhile: whoever is served is served right.
async fn meddle(server: &Server, brew: &Brew, mut container: Value, end: Instant, tally: &Tally) {
    while Instant::now() < end {
        let visiting = join_all((0..3).map(|_| visit(&container)));
        let (visits, ()) = tokio::join!(visiting, async {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..500))).await;
            let (uri, engine) = (path(&container), engine_id(&container));
            let docker = async |verb: &[&str]| {
                let done = tokio::process::Command::new("docker").args(verb).output().await;
                drop(done);
            };
            match rand::rng().random_range(0..8) {
                0 => drop(server.patch(&uri, "status=stopped").await),
                1 | 2 => drop(server.patch(&uri, "status=running").await),
                3 => docker(&["stop", "-t", "1", engine]).await,
                4 => docker(&["start", engine]).await,
                5 => docker(&["kill", engine]).await,
                6 => drop(server.patch(&uri, "wake=always&idle_timeout=1s").await),
                _ => drop(server.delete(&uri).await),
            }
            tally.meddled.fetch_add(1, Ordering::Relaxed);
        });
        for visit in visits {
            match visit.outcome {
                Ok(()) => note(tally, visit.said),
                Err(_) => drop(tally.cut.fetch_add(1, Ordering::Relaxed)),
            }
        }
        if server.get(&path(&container)).await.status == 404 {
            container = create(server, brew).await;
        }
    }
    // So that it is there, and asleep, when all is over.
    drop(server.patch(&path(&container), "status=running").await);
}

fn note(tally: &Tally, said: usize) {
    tally.served.fetch_add(1, Ordering::Relaxed);
    tally.bytes.fetch_add(said, Ordering::Relaxed);
}

/// One connection, and what came of it.
struct Visit {
    begun: OffsetDateTime,
    said: usize,
    outcome: std::io::Result<()>,
}

async fn visit(container: &Value) -> Visit {
    let said = noise(rand::rng().random_range(1..LONGEST));
    let begun = OffsetDateTime::now_utc();
    let outcome = tell(Some(stranger()), at(container, REPEATS), &said).await.map(|(who, repeated)| {
        assert_eq!(who, name(container), "another container answered");
        assert!(repeated == said, "what {who} repeated is not what was said");
    });
    Visit { begun, said: said.len(), outcome }
}

/// Whether a container was up at this moment, and was stopped afterwards.
async fn was_cut_off(server: &Server, container: &Value, begun: OffsetDateTime) -> bool {
    // The end of it may still be to come.
    server.wait_for(&path(container), "settled", |a| a.json["status"] != "stopping").await;
    let told = history(server, container).await;
    let turns = told.iter().filter(|h| h["event"] == "started" || h["event"] == "stopped");
    let turns = turns.map(|h| (OffsetDateTime::parse(h["at"].as_str().unwrap(), &Rfc3339).unwrap(), &h["event"]));
    // The latest is the first.
    let (after, before): (Vec<_>, Vec<_>) = turns.partition(|(at, _)| *at >= begun);
    let was_up = before.first().is_some_and(|(_, turn)| *turn == "started");
    was_up && after.last().is_some_and(|(_, turn)| *turn == "stopped")
}

/// Waits until all sleep, and sees that nothing is left: no connection, no descriptor, no rule, no port that leads
/// anywhere else.
async fn until_calm(server: &Server, containers: usize) {
    let ours = format!("spindown_containers{{status=\"stopped\"}} {containers}");
    let calm = |a: &Answer| {
        let metrics = a.json.as_str().unwrap();
        metrics.contains(&ours) && metrics.contains("spindown_carried_connections 0")
    };
    server.wait_within(3 * SOON, "/metrics", "all asleep and nothing carried", calm).await;
    let all = server.get("/v1/containers").await.json;
    let wakes = |c: &&Value| c["stopped_by"] != "user";
    let asleep: BTreeSet<String> = all.as_array().unwrap().iter().filter(wakes).flat_map(ports_of).collect();
    let table = server.block.instance();
    let listed = || -> BTreeSet<String> {
        let set = run("nft", &["list", "set", "inet", &table, "asleep"]);
        let inner =
            set.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(in_, _)| in_);
        inner.split(',').map(|port| port.trim().to_owned()).filter(|port| !port.is_empty()).collect()
    };
    until("the set holds what sleeps", || listed() == asleep).await;
    // One for each port that is kept, and what a server has open anyway. Connections of callers and to the engine are kept
    // open for a while, in case more is to be said.
    let (kept, deadline) = (2 * containers, Instant::now() + 6 * SOON);
    while server.descriptors() > kept + 60 {
        let held = run("ls", &["-l", &format!("/proc/{}/fd", server.pid())]);
        assert!(Instant::now() < deadline, "{} are held:\n{held}", server.descriptors());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let carrier = carrier(server);
    until("the carrier holds nothing", || std::fs::read_dir(format!("/proc/{carrier}/fd")).unwrap().count() < 20).await;
    assert_eq!(part(&server.get("/health").await, "door"), &true);
    // Each of them still wakes, and is who it was.
    for container in all.as_array().unwrap().iter().filter(wakes) {
        let answer = tell(Some(stranger()), at(container, REPEATS), b"good morning").await;
        let (who, said) = answer.unwrap_or_else(|error| panic!("{error}: {container:#}\n{}", server.log()));
        assert_eq!((who.as_str(), said.as_slice()), (name(container), &b"good morning"[..]));
    }
}

/// The process that the server has started to carry.
fn carrier(server: &Server) -> u64 {
    let log = server.log();
    let started: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default())
        .filter(|entry| entry["fields"]["message"] == "a carrier was started")
        .collect();
    let [one] = &started[..] else { panic!("{started:#?}") };
    one["fields"]["pid"].as_u64().unwrap()
}

fn ports_of(container: &Value) -> Vec<String> {
    container["ports"].as_array().unwrap().iter().map(|port| port["host_port"].to_string()).collect()
}
