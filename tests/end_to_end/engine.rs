//! The engine goes down, is killed, hangs and comes back, with Spindown there and without.

use super::*;
use crate::support::{block::IMAGE, engine::OwnEngine};

/// How long a call may take whose engine does not answer, with something on top for a busy machine.
const DEADLINE: Duration = Duration::from_secs(9);

/// Asserts that a change is refused for now, and in time.
async fn assert_waits(server: &Server, method: &str, path: &str, body: &str) {
    let begun = Instant::now();
    let answer = server.call(method.parse().unwrap(), path, body).await;
    assert_unavailable(&answer, "engine does not answer");
    assert!(begun.elapsed() < DEADLINE, "{method} {body} took {:?}", begun.elapsed());
}

/// Every change, each of which needs the engine.
async fn assert_changes_wait(server: &Server, container: &Value) {
    let path = path(container);
    assert_waits(server, "POST", "/v1/containers", &format!("image={IMAGE}")).await;
    for change in ["status=running", "status=stopped", "name=other", "authorized_keys="] {
        assert_waits(server, "PATCH", &path, change).await;
    }
    assert_waits(server, "DELETE", &path, "").await;
}

/// Waits until health names the engine, and nothing else but what depends on it.
async fn until_engine_is_missed(server: &Server) {
    let names_it = |a: &Answer| a.status == 503 && *part(a, "engine") != true;
    let health = server.wait_for("/health", "failing", names_it).await;
    assert!(part(&health, "engine").as_str().unwrap().contains("engine"), "{:#}", health.json);
    assert_eq!((part(&health, "store"), part(&health, "firewall")), (&true.into(), &true.into()), "{:#}", health.json);
}

/// Three containers: one at work, one that a person stopped by hand, one that was told to stop through the API.
struct Room {
    work: Value,
    by_hand: Value,
    told: Value,
}

impl Room {
    async fn furnish(server: &Server, engine: &OwnEngine) -> Self {
        let room =
            Self { work: server.create("").await, by_hand: server.create("").await, told: server.create("").await };
        assert_eq!(server.patch(&path(&room.told), "status=stopped").await.status, 200);
        engine.docker(&["stop", engine_id(&room.by_hand)]);
        room.until_down(server, &room.told, "user").await;
        room.until_down(server, &room.by_hand, "user").await;
        room
    }

    async fn until_down(&self, server: &Server, container: &Value, by: &str) {
        let down = server.wait_for_status(container["id"].as_str().unwrap(), "stopped").await;
        assert_eq!(down["stopped_by"], by, "{down:#}\n{}", server.log());
    }

    /// What went down with the engine is told from what people stopped, however often it is asked.
    async fn assert_causes(&self, server: &Server) {
        for query in ["", "?audit=true", ""] {
            let listed = server.get(&format!("/v1/containers{query}")).await.json;
            let cause = |container: &Value| {
                let all = listed.as_array().unwrap();
                let found = all.iter().find(|c| c["id"] == container["id"]).unwrap();
                (found["status"].clone(), found["stopped_by"].clone())
            };
            let stopped = |by: &str| ("stopped".into(), by.into());
            let log = server.log();
            assert_eq!(cause(&self.work), stopped("host"), "{query} {listed:#}\n{log}");
            assert_eq!(cause(&self.by_hand), stopped("user"), "{query} {listed:#}\n{log}");
            assert_eq!(cause(&self.told), stopped("user"), "{query} {listed:#}\n{log}");
        }
    }

    /// It comes up where it was.
    async fn start_work(&self, server: &Server, engine: &OwnEngine) {
        let started = server.patch(&path(&self.work), "status=running").await;
        assert_eq!(started.status, 200, "{:#}", started.json);
        assert_eq!((&started.json["status"], &started.json["ports"]), (&"running".into(), &self.work["ports"]));
        until_greeted(engine.host(), port(&self.work)).await;
    }
}

#[tokio::test]
async fn an_engine_that_goes_down_takes_its_containers_with_it_and_no_blame_falls_on_anybody() {
    let mut engine = OwnEngine::start();
    let server = Server::start_beside(&engine, &[("SPINDOWN_IDLE_SWEEP", "1s")]);
    let room = Room::furnish(&server, &engine).await;
    until_greeted(engine.host(), port(&room.work)).await;

    // Ended in an orderly way. What is asked goes on, what is to change has to wait, nobody is called idle.
    engine.end();
    until_engine_is_missed(&server).await;
    assert!(greeting(engine.host(), port(&room.work)).is_none());
    assert_changes_wait(&server, &room.work).await;
    assert_waits(&server, "PATCH", &path(&room.told), "status=running").await;
    assert_waits(&server, "DELETE", &path(&room.told), "").await;
    assert_eq!(server.patch(&path(&room.work), "idle_timeout=1").await.status, 200);
    holds(Duration::from_secs(4), async || {
        let listed = server.get("/v1/containers").await;
        assert_eq!((listed.status, listed.json.as_array().unwrap().len()), (200, 3));
        let work = server.get(&path(&room.work)).await.json;
        assert_ne!(work["stopped_by"], "idle", "{work:#}");
    })
    .await;
    let why = server.get(&format!("{}/activity", path(&room.work))).await.json;
    assert_eq!(why["verdict"], "keep", "{why:#}");
    assert_eq!(server.patch(&path(&room.work), "idle_timeout=never").await.status, 200);

    engine.begin();
    until_well(&server).await;
    room.assert_causes(&server).await;
    room.start_work(&server, &engine).await;

    // Killed: its containers are left to themselves until it is back.
    engine.kill();
    until_engine_is_missed(&server).await;
    engine.begin();
    until_well(&server).await;
    room.assert_causes(&server).await;
    room.start_work(&server, &engine).await;

    // While Spindown is down as well.
    let mut server = server;
    assert!(server.end_with("TERM").success());
    engine.end();
    engine.begin();
    let server = server.start_again(&[]);
    room.assert_causes(&server).await;
    room.start_work(&server, &engine).await;
}

#[tokio::test]
async fn an_end_that_is_learned_from_the_next_run_of_the_engine_is_nobodys_deed() {
    // Whoever looks at what has just ended gets his answer from the engine's next run.
    let mut engine = OwnEngine::start_behind_open_socket();
    let server = Server::start_beside(&engine, &[]);
    let room = Room::furnish(&server, &engine).await;
    engine.end();
    engine.begin();
    until_well(&server).await;
    room.assert_causes(&server).await;
    room.start_work(&server, &engine).await;
}

#[tokio::test]
async fn an_engine_that_hangs_is_waited_for_and_nobody_is_stopped_for_it() {
    let engine = OwnEngine::start();
    let settings = [("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_STORE_DRIFT", "1s")];
    let server = Server::start_beside(&engine, &settings);
    let kept = server.create("").await;
    let other = server.create("").await;
    let idle = server.create("idle_timeout=4").await;
    engine.hang();
    until_engine_is_missed(&server).await;
    let (create, first, second) = (format!("image={IMAGE}"), path(&kept), path(&other));
    futures::join!(
        assert_waits(&server, "POST", "/v1/containers", &create),
        assert_waits(&server, "PATCH", &first, "status=stopped"),
        assert_waits(&server, "DELETE", &second, ""),
    );
    // By now its timeout has passed several times.
    holds(Duration::from_secs(1), async || {
        for container in [&kept, &other, &idle] {
            let now = server.get(&path(container)).await;
            assert_eq!((now.status, &now.json["status"]), (200, &"running".into()), "{:#}", now.json);
        }
    })
    .await;

    engine.go_on();
    until_well(&server).await;
    let back = server.get(&format!("{}/activity", path(&idle))).await.json;
    assert_eq!((&back["status"], &back["verdict"]), (&"running".into(), &"keep".into()), "{back:#}");
    // Nothing of what was refused is done all the same, and stops work again.
    let stopped = server.wait_for_status(idle["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
    assert_eq!(server.get(&path(&kept)).await.json["status"], "running");
    assert_eq!(server.get("/v1/containers?audit=true").await.json.as_array().unwrap().len(), 3);
    let label = format!("label=spindown.managed={}", engine.block.instance());
    assert_eq!(engine.docker(&["ps", "-aq", "--filter", &label]).lines().count(), 3);
    assert_eq!(server.patch(&path(&kept), "status=stopped").await.status, 200);
    server.wait_for_status(kept["id"].as_str().unwrap(), "stopped").await;
}

#[tokio::test]
async fn a_server_that_starts_without_its_engine_takes_it_up_when_it_comes() {
    let mut engine = OwnEngine::start();
    let server = Server::start_beside(&engine, &[]);
    let made = server.create("name=early").await;
    engine.end();
    let server = server.start_again(&[]);
    until_engine_is_missed(&server).await;
    // It does not know yet what there is, and does not pretend to.
    assert_unavailable(&server.get("/v1/containers").await, "engine");
    assert_unavailable(&server.get(&path(&made)).await, "engine");
    assert_changes_wait(&server, &made).await;

    engine.begin();
    until_well(&server).await;
    let known = server.get(&path(&made)).await.json;
    assert_eq!((&known["status"], &known["stopped_by"]), (&"stopped".into(), &"host".into()), "{known:#}");
    assert_eq!(server.patch(&path(&made), "status=running").await.status, 200);
    // The listener for check-ins is there too, and the rules let them through.
    let said = engine.docker(&["exec", engine_id(&made), "spindown-check-in", "try"]);
    assert!(said.starts_with("active-connections=0 to http://"), "{said}");
    let activity = server.get(&format!("{}/activity", path(&made))).await.json;
    assert!(activity["evidence"].as_array().unwrap().iter().any(|e| e["sign"] == "check-in"), "{activity:#}");
}
