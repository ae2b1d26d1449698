//! An engine that is killed and one that never answers; clients that are slow on purpose; a server without descriptors.
//! Each time: what must go on goes on, nobody is stopped who is in use, health tells, and it recovers by itself.

use std::{
    io::{ErrorKind, Read, Write},
    process,
};

use futures::future::join_all;

use super::*;
use crate::support::{block::IMAGE, door::Door, engine::OwnEngine};

/// How long a call may take whose engine does not answer, with something on top for a busy machine.
const DEADLINE: Duration = Duration::from_secs(9);
/// How long an answer may take that waits for nobody.
const PROMPT: Duration = Duration::from_secs(2);
/// The idle timeout of those that are watched.
const TIMEOUT: Duration = Duration::from_secs(6);
/// What a shell on Debian grants unless it is asked for more, and what it may be asked for.
const GRANTED: &str = "--nofile=1024:16384";

/// Answers what `path` says, in time.
async fn prompt(server: &Server, path: &str) -> Answer {
    let begun = Instant::now();
    let answer = server.get(path).await;
    assert!(begun.elapsed() < PROMPT, "{path} took {:?}", begun.elapsed());
    answer
}

/// Waits until health names the engine.
async fn until_engine_is_missed(server: &Server) {
    let names_it = |a: &Answer| a.status == 503 && *part(a, "engine") != true;
    let health = server.wait_for("/health", "failing", names_it).await;
    assert!(part(&health, "engine").as_str().unwrap().contains("engine"), "{:#}", health.json);
    assert_eq!(*part(&health, "store"), true, "{:#}", health.json);
}

/// Somebody who works in a container for as long as this takes: it reports him every second, and stays up.
async fn works(server: &Server, container: &Value, span: Duration) {
    let mut seconds = 0;
    holds(span, async || {
        seconds += 1;
        report(container, seconds);
        let now = prompt(server, &path(container)).await.json;
        assert_eq!((&now["status"], &now["active"]), (&"running".into(), &seconds.to_string().into()), "{now:#}");
        tokio::time::sleep(Duration::from_millis(700)).await;
    })
    .await;
}

/// The idle one goes in the end, for no other reason.
async fn until_idle(server: &Server, container: &Value) {
    let stopped = server.wait_for_status(container["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle", "{stopped:#}\n{}", server.log());
}

/// From now on he has to be heard again and again.
async fn begin_to_count(server: &Server, container: &Value) {
    assert_eq!(server.patch(&path(container), &with_timeout()).await.status, 200);
}

fn with_timeout() -> String {
    format!("idle_timeout={}", TIMEOUT.as_secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_never_answers_costs_time_and_no_more() {
    let door = Door::new();
    let settings = [
        ("SPINDOWN_ENGINE", &*door.url()),
        ("SPINDOWN_IDLE_SWEEP", "1s"),
        ("SPINDOWN_EVIDENCE_CONNECTIONS", "on"),
        ("SPINDOWN_STORE_DRIFT", "1s"),
    ];
    let server = Server::start(&settings);
    let (work, idle) = (server.create("").await, server.create(&with_timeout()).await);
    let descriptors = server.descriptors();

    door.shut();
    until_engine_is_missed(&server).await;
    // More at once than have a place at the engine. Each is refused in time.
    let create = format!("image={IMAGE}");
    let begun = Instant::now();
    let (creates, changes) = futures::join!(
        join_all((0..100).map(|_| server.post("/v1/containers", &create))),
        join_all([&work, &idle].map(async |container| server.patch(&path(container), "name=other").await)),
    );
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    for answer in creates.iter().chain(&changes) {
        assert_unavailable(answer, "engine does not answer");
    }
    // The lanes to the engine, and the events.
    assert!(door.most() <= 2 * 32 + 1, "{}", door.most());
    // Reads and reports go on, and nobody is called idle.
    works(&server, &work, TIMEOUT).await;
    for container in [&work, &idle] {
        assert_eq!(prompt(&server, &path(container)).await.json["status"], "running");
        assert!(runs(container));
    }
    let why = prompt(&server, &format!("{}/activity", path(&idle))).await.json;
    assert!(why["reason"].as_str().unwrap().contains("engine"), "{why:#}");

    door.open();
    until_well(&server).await;
    let why = prompt(&server, &format!("{}/activity", path(&idle))).await.json;
    assert_eq!((&why["status"], &why["verdict"]), (&"running".into(), &"keep".into()), "{why:#}");
    until_idle(&server, &idle).await;
    assert_eq!(server.patch(&path(&idle), "status=running").await.status, 200);
    assert!(runs(&work));
    // A hundred callers have come by meanwhile, and are kept alive; and containers are looked into.
    assert!(server.descriptors() <= descriptors + 130, "{} were {descriptors}", server.descriptors());
}

#[tokio::test]
async fn containers_go_on_without_an_engine_that_was_killed() {
    let mut engine = OwnEngine::start();
    let server =
        Server::start_beside(&engine, &[("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_CONNECTIONS", "on")]);
    let (work, idle) = (server.create("").await, server.create(&with_timeout()).await);
    let inside = engine.processes_of(engine_id(&work));
    engine.kill();
    until_engine_is_missed(&server).await;
    // Nobody is at the engine, and all the same the container works and is heard.
    let mut count = 0;
    holds(TIMEOUT + Duration::from_secs(2), async || {
        count += 1;
        engine.report_from(inside, count);
        let now = prompt(&server, &path(&work)).await.json;
        assert_eq!((&now["status"], &now["active"]), (&"running".into(), &count.to_string().into()), "{now:#}");
        let now = prompt(&server, &path(&idle)).await.json;
        assert_eq!(now["status"], "running", "{now:#}");
    })
    .await;
    let why = server.get(&format!("{}/activity", path(&idle))).await.json;
    assert!(why["reason"].as_str().unwrap().contains("engine"), "{why:#}");
    let refused = server.post("/v1/containers", &format!("image={IMAGE}")).await;
    assert_unavailable(&refused, "engine does not answer");

    // The engine ends what it finds when it comes back: that is nobody's idleness.
    engine.begin();
    until_well(&server).await;
    for container in [&work, &idle] {
        let after = server.get(&path(container)).await.json;
        assert_eq!((&after["status"], &after["stopped_by"]), (&"stopped".into(), &"host".into()), "{after:#}");
        assert_eq!(server.patch(&path(container), "status=running").await.status, 200);
    }
    until_idle(&server, &idle).await;
    assert_eq!(server.get(&path(&work)).await.json["status"], "running");
}

/// Connections whose requests never come to their end.
struct Slow(Vec<TcpStream>);

impl Slow {
    /// Opens so many, each with the head of a request that is not finished.
    fn open(server: &Server, many: usize) -> Self {
        let address: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
        let open = |_| {
            let mut stream = TcpStream::connect_timeout(&address, SOON).unwrap();
            stream.write_all(b"GET /v1/containers HTTP/1.1\r\nHost: here\r\nX-Slow: a").unwrap();
            stream
        };
        Self((0..many).map(open).collect())
    }

    /// Each says a little more, and is still not done.
    fn dribble(&mut self) {
        for stream in &mut self.0 {
            let _ = stream.write_all(b"a");
        }
    }
}

/// Lets this process have more descriptors than it was granted.
fn allow_descriptors() {
    run("prlimit", &["--pid", &process::id().to_string(), "--nofile=8192:"]);
}

#[tokio::test]
async fn two_thousand_slow_connections_keep_nobody_waiting() {
    allow_descriptors();
    let server = Server::start_within(
        &["prlimit", GRANTED],
        &[("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_CONNECTIONS", "on")],
    );
    let work = server.create("").await;
    let (descriptors, memory) = (server.descriptors(), server.memory());

    let mut slow = Slow::open(&server, 2_000);
    until("all are taken", || server.descriptors() >= descriptors + 2_000).await;
    slow.dribble();
    let idle = server.create(&with_timeout()).await;
    // Others are served, by connections of their own too; who works is heard; who is idle is stopped.
    begin_to_count(&server, &work).await;
    works(&server, &work, TIMEOUT + Duration::from_secs(2)).await;
    until_idle(&server, &idle).await;
    assert_eq!(server.get(&path(&work)).await.json["status"], "running");
    for _ in 0..20 {
        let begun = Instant::now();
        let anew = reqwest::Client::new().get(format!("{}/health", server.url)).send().await.unwrap();
        assert_eq!(anew.status(), 200);
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    }
    slow.dribble();
    let (held, grown) = (server.descriptors(), server.memory().saturating_sub(memory));
    assert!(held >= 2_000, "they are held for as long as their clients please: {held}");
    assert!(grown < 96 << 20, "{grown} bytes for 2,000 connections");

    drop(slow);
    until("all are let go", || server.descriptors() <= descriptors + 20).await;
    until_well(&server).await;
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_cut_off() {
    const LIMIT: Duration = Duration::from_secs(10);
    // So many bytes Rocket waits for before it hands a request over to us, and so to our limit.
    const AWAITED: u64 = 14;
    let server = Server::start(&[("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_CONNECTIONS", "on")]);
    let work = server.create("").await;
    let address: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let begun = Instant::now();
    // One byte a second, on both routes that take bodies, from the first byte on or after some more.
    let clients: Vec<_> = (0..20)
        .map(|number| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let route = if number % 2 == 0 { "/v1/containers" } else { "/v1/check-in" };
                let first = if number < 10 { 0 } else { 100 };
                let head = format!(
                    "POST {route} HTTP/1.1\r\nHost: here\r\nAuthorization: Basic YWRtaW46c3BpbmRvY2tlcg==\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&vec![b'a'; first]).unwrap();
                let mut answer = Vec::new();
                loop {
                    // Whoever was answered may find the connection closed.
                    let _ = stream.write_all(b"a");
                    match stream.read_to_end(&mut answer) {
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        _ => return (first, String::from_utf8_lossy(&answer).into_owned(), begun.elapsed()),
                    }
                    assert!(begun.elapsed() < 4 * LIMIT, "nobody cuts it off");
                }
            })
        })
        .collect();
    begin_to_count(&server, &work).await;
    works(&server, &work, LIMIT).await;
    for client in clients {
        let (first, answer, took) = client.join().unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let awaited = Duration::from_secs(if first > 0 { 0 } else { AWAITED });
        assert!(took < LIMIT + awaited + Duration::from_secs(5), "{first} {took:?}");
    }
    assert_eq!(server.log().matches("\"status\":408").count(), 20, "{}", server.log());
    until_well(&server).await;
}

#[tokio::test]
async fn a_server_out_of_descriptors_stops_nobody_and_recovers() {
    let settings =
        [("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_CONNECTIONS", "on"), ("SPINDOWN_STORE_DRIFT", "1s")];
    let server = Server::start_within(&["prlimit", "--nofile=80:80"], &settings);
    let work = server.create(&with_timeout()).await;
    let descriptors = server.descriptors();
    assert!(descriptors < 40, "{descriptors}");
    // This one's connection is there already.
    let why = format!("{}/activity", path(&work));
    assert_eq!(prompt(&server, &why).await.status, 200);

    // Some are taken, and the rest wait in the kernel.
    let slow = Slow::open(&server, 120);
    until("there is none left", || server.descriptors() >= 79).await;
    until_engine_is_missed(&server).await;
    // Nobody can report now, for longer than the timeout.
    holds(TIMEOUT + Duration::from_secs(3), async || {
        let now = prompt(&server, &path(&work)).await;
        assert_eq!((now.status, &now.json["status"]), (200, &"running".into()), "{:#}", now.json);
    })
    .await;
    assert!(runs(&work));

    drop(slow);
    until_well(&server).await;
    works(&server, &work, TIMEOUT + Duration::from_secs(2)).await;
    until("they are let go", || server.descriptors() <= descriptors + 20).await;
    until_idle(&server, &work).await;
}
