//! What else may happen around a wake, in every order: stops, changes, removals, restarts, faults.

use super::*;
use crate::support::engine::OwnEngine;

/// Says something back and forth over a connection that goes on.
async fn chat(stream: &mut Stream, word: &[u8]) {
    stream.write_all(word).await.unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, word);
}

#[tokio::test]
async fn carried_connections_go_on_when_the_server_is_killed() {
    let mut aviary = Aviary::open();
    let (carried, direct, other) = tokio::join!(aviary.asleep(), aviary.create("idle_timeout=1h"), aviary.asleep());
    let mut through = parrot::connect(None, at(&carried, ECHOES)).await.unwrap();
    let mut straight = parrot::connect(None, at(&direct, ECHOES)).await.unwrap();
    chat(&mut through, b"before").await;
    chat(&mut straight, b"before").await;
    for signal in ["KILL", "TERM"] {
        aviary.server.end_with(signal);
        chat(&mut through, signal.as_bytes()).await;
        chat(&mut straight, signal.as_bytes()).await;
        // Nobody is there to wake it.
        assert_closed(&other);
        aviary.server = aviary.server.start_again(&[]);
        chat(&mut through, b"after").await;
        chat(&mut straight, b"after").await;
        // A connection from before counts as use for the next server, too.
        let signs = aviary.server.get(&format!("{}/activity", path(&carried))).await.json;
        assert_eq!(signs["status"], "running", "{signs:#}");
    }
    assert_eq!(tell(None, at(&other, REPEATS), b"hello").await.unwrap().0, name(&other));
    through.shutdown().await.unwrap();
    assert_eq!(through.read(&mut [0]).await.unwrap(), 0, "it ends as it should");
}

#[tokio::test]
async fn whoever_uses_what_he_has_through_the_door_keeps_it_awake() {
    let aviary = Aviary::open();
    let asleep = aviary.asleep().await;
    let mut stream = parrot::connect(None, at(&asleep, ECHOES)).await.unwrap();
    chat(&mut stream, b"hello").await;
    aviary.server.patch(&path(&asleep), "idle_timeout=2s").await;
    for _ in 0..8 {
        chat(&mut stream, b"and on").await;
        holds(Duration::from_secs(1), async || assert_eq!(status(&aviary.server, &asleep).await, "running")).await;
    }
    let activity = aviary.server.get(&format!("{}/activity", path(&asleep))).await.json;
    assert!(activity["evidence"].as_array().unwrap().iter().any(|e| e["sign"] == "carried"), "{activity:#}");
    chat(&mut stream, b"still there").await;
    // That it is open is none.
    let stopped = aviary.server.wait_for_status(asleep["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
}

/// Waits until a container answers at this address, for which connections may be lost until then: each comes from a source
/// that is not known yet.
async fn until_answered(server: &Server, container: &Value, address: SocketAddr) {
    let deadline = Instant::now() + SOON;
    let source = || address.ip().is_loopback().then(stranger);
    let who = loop {
        match tell(source(), address, b"hello").await {
            Ok((who, _)) => break who,
            Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", server.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(who, name(container));
}

#[tokio::test]
async fn one_that_sleeps_and_is_started_through_the_api_loses_nobody() {
    let aviary = Aviary::of("", 2);
    let asleep = aviary.create("idle_timeout=4s").await;
    let asleep = put_to_sleep(&aviary.server, &asleep).await;
    assert_eq!(aviary.server.patch(&path(&asleep), "status=running").await.json["status"], "running");
    // It needs two seconds more.
    assert_eq!(tell(None, at(&asleep, REPEATS), b"hello").await.unwrap().0, name(&asleep));
}

#[tokio::test]
async fn who_stopped_it_decides_whether_it_wakes() {
    let aviary = Aviary::open();
    let server = &aviary.server;
    let wakes = async |container: &Value| {
        server.get(&format!("{}/activity", path(container))).await.json["wakes"].as_bool().unwrap()
    };
    let stopped = async |container: &Value, by: &str| {
        let now = server.wait_for_status(container["id"].as_str().unwrap(), "stopped").await;
        assert_eq!(now["stopped_by"], by, "{now:#}");
    };
    // By a person, through the API or behind its back: closed.
    let told = aviary.create("").await;
    server.patch(&path(&told), "status=stopped").await;
    stopped(&told, "user").await;
    assert!(!wakes(&told).await);
    assert_closed(&told);
    let by_hand = aviary.create("").await;
    run("docker", &["stop", "-t", "5", engine_id(&by_hand)]);
    stopped(&by_hand, "user").await;
    assert_closed(&by_hand);
    // Who starts it by hand finds it as it was.
    run("docker", &["start", engine_id(&by_hand)]);
    server.wait_for_status(by_hand["id"].as_str().unwrap(), "running").await;
    until_answered(server, &by_hand, at(&by_hand, REPEATS)).await;

    // One that sleeps already, too.
    let sleeping = aviary.asleep().await;
    assert!(wakes(&sleeping).await);
    assert_eq!(server.patch(&path(&sleeping), "status=stopped").await.json["stopped_by"], "user");
    assert_closed(&sleeping);
    server.patch(&path(&sleeping), "status=running").await;
    until_answered(server, &sleeping, at(&sleeping, REPEATS)).await;

    // By itself: it depends. What is changed holds at once.
    let own = aviary.create("wake=idle").await;
    run("docker", &["exec", engine_id(&own), "perl", "-e", "kill TERM, 1"]);
    stopped(&own, "self").await;
    assert_closed(&own);
    assert_eq!(server.patch(&path(&own), "wake=always").await.json["wake"], "always");
    assert!(wakes(&own).await);
    assert_eq!(tell(Some(stranger()), at(&own, REPEATS), b"hello").await.unwrap().0, name(&own));
    let never = aviary.create("wake=never&idle_timeout=1s").await;
    let never = put_to_sleep(server, &never).await;
    assert_closed(&never);
    server.patch(&path(&never), "wake=always").await;
    assert_eq!(tell(Some(stranger()), at(&never, REPEATS), b"hello").await.unwrap().0, name(&never));

    // Gone is gone, and its port is nobody's.
    let gone = aviary.asleep().await;
    assert_eq!(server.delete(&path(&gone)).await.status, 204);
    assert_closed(&gone);
    let taken = aviary.asleep().await;
    run("docker", &["rm", "-f", engine_id(&taken)]);
    let missing = |a: &Answer| a.json["status"] == "missing";
    server.wait_for(&path(&taken), "missing", missing).await;
    until("its port is closed", || TcpStream::connect(at(&taken, REPEATS)).is_err()).await;
}

#[tokio::test]
async fn one_that_does_not_stay_up_is_tried_ever_more_seldom() {
    let server = Server::start(&[SWEEPS]);
    let brew = Brew::build(
        &server.block,
        "brief",
        &format!("FROM spindown/base\nEXPOSE {REPEATS}\nENTRYPOINT [\"sh\", \"-c\", \"echo up; exit 3\"]\n"),
    );
    let made = server.post("/v1/containers", &format!("image={}", brew.0)).await.json;
    let ended = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(ended["stopped_by"], "self");
    let starts = || run("docker", &["logs", engine_id(&made)]).lines().count();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let broken = tell(Some(stranger()), at(&made, REPEATS), b"hello").await.unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // At once, and after 1, 2, 4 and 8 seconds.
    let starts = starts();
    assert!((4..=6).contains(&starts), "{starts} starts");
    let told = history(&server, &made).await;
    assert!(
        told.iter().any(|h| h["event"] == "wake_refused" && h["reason"].as_str().unwrap().contains("ends by itself")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn a_start_that_fails_closes_the_waiting_and_is_tried_again() {
    let aviary = Aviary::open();
    let asleep = aviary.asleep().await;
    let port = published(&asleep, REPEATS);
    // A stranger may take the port all the same, if it asks for that: as this one does.
    let taken = TcpListener::bind((HERE, port)).unwrap();
    let broken = join_all((0..5).map(|_| tell(Some(stranger()), at(&asleep, REPEATS), b"hello"))).await;
    for broken in broken {
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::ConnectionReset, "{}", aviary.server.log());
    }
    assert_eq!(status(&aviary.server, &asleep).await, "stopped");
    let told = history(&aviary.server, &asleep).await;
    let reasons: Vec<_> = told.iter().filter(|h| h["event"] == "wake_refused").map(|h| h["reason"].clone()).collect();
    assert!(reasons.iter().any(|reason| reason.as_str().unwrap().contains(&port.to_string())), "{told:#?}");
    drop(taken);
    until_answered(&aviary.server, &asleep, at(&asleep, REPEATS)).await;
    assert_eq!(status(&aviary.server, &asleep).await, "running");
}

#[tokio::test]
async fn an_application_that_never_accepts_closes_the_waiting() {
    let server = Server::start(&[SWEEPS]);
    let brew = Brew::build(
        &server.block,
        "mute",
        &format!("FROM spindown/base\nEXPOSE {REPEATS}\nENTRYPOINT [\"sleep\", \"infinity\"]\n"),
    );
    let made = server.post("/v1/containers", &format!("image={}&idle_timeout=1s", brew.0)).await.json;
    put_to_sleep(&server, &made).await;
    let begun = Instant::now();
    let mut stream = parrot::connect(None, at(&made, REPEATS)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!((55..90).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let told = history(&server, &made).await;
    let reason = told.iter().find(|h| h["event"] == "wake_refused").unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains("accepted connections"), "{told:#?}");
}

#[tokio::test]
async fn rules_that_were_flushed_are_put_back() {
    let aviary = Aviary::open();
    let asleep = aviary.asleep().await;
    let table = aviary.server.block.instance();
    for damage in [format!("flush set inet {table} asleep"), format!("delete table inet {table}")] {
        run("nft", &[&damage]);
        // Until they are back whoever comes is refused, for nobody listens there.
        assert_closed(&asleep);
        until("they are back", || TcpStream::connect(at(&asleep, REPEATS)).is_ok()).await;
        assert_eq!(tell(Some(stranger()), at(&asleep, REPEATS), b"hello").await.unwrap().0, name(&asleep));
        put_back_to_sleep(&aviary.server, &asleep).await;
    }
}

#[tokio::test]
async fn what_the_engine_took_down_wakes() {
    let mut engine = OwnEngine::start();
    let brew = parrot::brew(&engine.block, "parrot", "", 0);
    engine.bring(&brew.0);
    let server = Server::start_beside(&engine, &[SWEEPS]);
    let made = server.post("/v1/containers", &format!("image={}&idle_timeout=1h", brew.0)).await.json;
    let idle = server.post("/v1/containers", &format!("image={}&idle_timeout=1s", brew.0)).await.json;
    let idle = put_to_sleep(&server, &idle).await;
    let there = |container: &Value| SocketAddr::new(engine.host(), published(container, REPEATS));
    let (there, there_too) = (there(&made), there(&idle));
    engine.end();
    // Whoever wants one meanwhile is not kept waiting for ever.
    let broken = tell(None, there_too, b"hello").await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset, "{}", server.log());
    engine.begin();
    let down = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(down["stopped_by"], "host", "{down:#}");
    until_well(&server).await;
    for (container, address) in [(&made, there), (&idle, there_too)] {
        until_answered(&server, container, address).await;
    }

    // A firewall of the host's own that would keep clients away is told of.
    let port = engine.block.door();
    let foreign = "add table inet foreign; add chain inet foreign in { type filter hook input priority 0; policy drop; }; \
                   add rule inet foreign in ct state != invalid accept";
    engine.inside(&["nft", foreign]);
    let told = |a: &Answer| a.json["checks"]["door"]["message"].is_string();
    let health = server.wait_for("/health", "a door that may be blocked", told).await;
    assert!(
        health.json["checks"]["door"]["message"].as_str().unwrap().contains(&port.to_string()),
        "{:#}",
        health.json
    );
    // It cannot be known from here, so that it is no failure.
    assert_eq!((health.status, part(&health, "door")), (200, &true.into()), "{:#}", health.json);
    engine.inside(&["nft", "delete table inet foreign"]);
    server.wait_for("/health", "clear", |a| !told(a)).await;
    drop(server);
}

#[tokio::test]
async fn without_a_door_ports_that_are_asleep_are_closed() {
    let block = Arc::new(Block::take());
    let brew = parrot::brew(&block, "parrot", "", 0);
    let server = Server::try_start(block, &[SWEEPS, ("SPINDOWN_DOOR_ENABLED", "false")]).unwrap();
    let made = server.post("/v1/containers", &format!("image={}&idle_timeout=1s", brew.0)).await.json;
    let asleep = put_to_sleep(&server, &made).await;
    assert_closed(&asleep);
    let activity = server.get(&format!("{}/activity", path(&asleep))).await.json;
    assert_eq!(activity["wakes"], false, "{activity:#}");
    assert_eq!(part(&server.get("/health").await, "door"), &true);
}
