//! With Redis as the store: it is away at the start, goes down later, hangs, forgets everything, and comes back.

use std::sync::Arc;

use super::*;
use crate::support::{
    block::{Block, IMAGE},
    redis::RedisServer,
};

/// How long a call may take whose store does not answer, with something on top for a busy machine.
const DEADLINE: Duration = Duration::from_secs(6);
/// The idle timeout of the one that nobody uses.
const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_container_lives_its_life_on_redis() {
    let redis = RedisServer::start_with(&["--appendonly", "no", "--requirepass", "hush-hush"]);
    let url = format!("redis://:hush-hush@127.0.0.1:{}", redis.port());
    let server = Server::start(&[("SPINDOWN_REDIS_URL", &url), ("SPINDOWN_IDLE_SWEEP", "1s")]);
    let made = server.create("labels=class%3Dlogic").await;
    until_greeted(HERE, port(&made)).await;
    assert_eq!(server.patch(&path(&made), "status=stopped").await.json["status"], "stopping");
    server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    let started = server.patch(&path(&made), "status=running&idle_timeout=1").await;
    assert_eq!((started.status, &started.json["ports"]), (200, &made["ports"]));
    let stopped = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");

    let server = server.start_again(&[]);
    let after = server.get(&path(&made)).await.json;
    assert_eq!((&after["stopped_by"], &after["idle_timeout"]), (&"idle".into(), &1.into()), "{after:#}");
    assert_eq!(server.delete(&path(&made)).await.status, 204);
    assert_eq!(server.get(&path(&made)).await.status, 404);
    assert!(!server.log().contains("hush-hush"));
}

#[tokio::test]
async fn a_server_whose_redis_does_not_answer_does_not_start() {
    let mut redis = RedisServer::start_with(&["--appendonly", "no", "--requirepass", "hush-hush"]);
    let address = format!("127.0.0.1:{}", redis.port());
    let refused = |password: &str| {
        let url = format!("redis://:{password}@{address}");
        let ended = Server::try_start(Arc::new(Block::take()), &[("SPINDOWN_REDIS_URL", &url)]).err().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.log.contains(&address) && !ended.log.contains(password), "{ended:?}");
        ended.log
    };
    let log = refused("wrong-word");
    assert!(log.contains("password"), "{log}");
    redis.hang();
    let log = refused("hush-hush");
    assert!(log.contains("does not answer"), "{log}");
    redis.kill();
    refused("hush-hush");
}

/// What is true while the store is away, however it is away.
async fn assert_suspended(server: &Server, kept: &Value, idle: &Value, connections: u32) {
    let missed = |a: &Answer| a.status == 503 && *part(a, "store") != true;
    let health = server.wait_for("/health", "failing", missed).await;
    assert_eq!(*part(&health, "engine"), true, "{:#}", health.json);
    // Nothing that has to be written down is begun.
    let before = run("docker", &["ps", "-aq", "--filter", &format!("network={}", server.block.instance())]);
    for (method, path, body) in [
        ("POST", "/v1/containers".to_owned(), format!("image={IMAGE}")),
        ("PATCH", path(kept), "status=stopped".to_owned()),
        ("PATCH", path(kept), "idle_timeout=1".to_owned()),
        ("PATCH", path(kept), "name=other".to_owned()),
        ("DELETE", path(kept), String::new()),
    ] {
        let begun = Instant::now();
        let answer = server.call(method.parse().unwrap(), &path, &body).await;
        assert_unavailable(&answer, "store");
        assert!(begun.elapsed() < DEADLINE, "{method} {body} took {:?}", begun.elapsed());
    }
    let after = run("docker", &["ps", "-aq", "--filter", &format!("network={}", server.block.instance())]);
    assert_eq!(before, after);
    // What is asked is answered, from what the engine shows at that moment; reports are taken.
    report(kept, connections);
    assert_eq!(server.get(&path(kept)).await.json["active"], connections.to_string());
    run("docker", &["pause", engine_id(kept)]);
    let shown = |a: &Answer| a.json["status"] == "frozen";
    server.wait_within(Duration::from_secs(2), &path(kept), "frozen", shown).await;
    run("docker", &["unpause", engine_id(kept)]);
    // Its timeout passes, and it is left alone.
    holds(TIMEOUT + Duration::from_secs(2), async || {
        let now = server.get(&path(idle)).await;
        assert_eq!((now.status, &now.json["status"]), (200, &"running".into()), "{:#}", now.json);
    })
    .await;
    let why = server.get(&format!("{}/activity", path(idle))).await.json;
    assert_eq!(why["verdict"], "keep", "{why:#}");
    assert!(why["reason"].as_str().unwrap().contains("store"), "{why:#}");
    assert_eq!(server.get("/v1/containers").await.json.as_array().unwrap().len(), 2);
}

/// What is true once it is back.
async fn assert_resumed(server: &Server, redis: &RedisServer, kept: &Value, idle: &Value) {
    until_well(server).await;
    let anew = |a: &Answer| a.json["reason"].as_str().unwrap().starts_with("Watching began anew");
    let why = server.wait_for(&format!("{}/activity", path(idle)), "watched anew", anew).await.json;
    assert_eq!((&why["status"], &why["verdict"]), (&"running".into(), &"keep".into()), "{why:#}");
    // What came in meanwhile has been written down.
    let key = format!("HGET {{{}}}:activity {}", server.block.instance(), kept["id"].as_str().unwrap());
    let now = server.get(&path(kept)).await.json;
    until("the report is in Redis", || redis.tell(&key).contains(&format!(" {}\r\n", now["active"].as_str().unwrap())))
        .await;
    // And idle ones are stopped again.
    let stopped = server.wait_for_status(idle["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
    assert_eq!(server.patch(&path(idle), "status=running").await.status, 200);
}

#[tokio::test]
async fn without_redis_nothing_is_begun_and_nobody_is_stopped() {
    let mut redis = RedisServer::start_durable();
    // Far shorter than usual, so that the corrections from the store come in between.
    let settings = [
        ("SPINDOWN_REDIS_URL", redis.url()),
        ("SPINDOWN_IDLE_SWEEP", "1s".into()),
        ("SPINDOWN_STORE_DRIFT", "1s".into()),
    ];
    let server = Server::start(&settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    let kept = server.create("").await;
    let idle = server.create(&format!("idle_timeout={}", TIMEOUT.as_secs())).await;
    redis.kill();
    assert_suspended(&server, &kept, &idle, 3).await;
    redis.restart();
    assert_resumed(&server, &redis, &kept, &idle).await;
    redis.hang();
    assert_suspended(&server, &kept, &idle, 4).await;
    redis.go_on();
    assert_resumed(&server, &redis, &kept, &idle).await;
}

#[tokio::test]
async fn a_redis_that_forgets_everything_costs_no_container_and_no_port() {
    let redis = RedisServer::start();
    let block = Arc::new(Block::take());
    let (first, last) = (block.ports().0.to_string(), (block.ports().0 + 1).to_string());
    let url = redis.url();
    let settings = [
        ("SPINDOWN_REDIS_URL", url.as_str()),
        ("SPINDOWN_PORTS_FIRST", &first),
        ("SPINDOWN_PORTS_LAST", &last),
        ("SPINDOWN_STORE_DRIFT", "1s"),
    ];
    let server = Server::try_start(block, &settings).unwrap();
    let made = server.create("labels=class%3Dlogic").await;
    assert!(redis.tell("FLUSHALL").starts_with("+OK"));
    // A change goes over nothing that is stored.
    let stopped = server.patch(&path(&made), "status=stopped").await;
    assert_eq!(stopped.status, 200, "{:#}", stopped.json);
    let stopped = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!((&stopped["stopped_by"], &stopped["labels"]), (&"user".into(), &made["labels"]), "{stopped:#}");
    let other = server.create("").await;
    assert_ne!(port(&other), port(&made));
    let full = server.post("/v1/containers", &format!("image={IMAGE}")).await;
    assert!(full.json["message"].as_str().unwrap().contains("no port is left"), "{:#}", full.json);
    let started = server.patch(&path(&made), "status=running").await;
    assert_eq!((started.status, &started.json["ports"]), (200, &made["ports"]), "{:#}", started.json);
    // A restart finds what was written anew.
    let server = server.start_again(&[]);
    assert_eq!(server.get("/v1/containers").await.json.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn two_servers_over_one_redis_tell_the_same() {
    let redis = RedisServer::start();
    let block = Arc::new(Block::take());
    let url = redis.url();
    let both = [("SPINDOWN_REDIS_URL", url.as_str()), ("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_STORE_DRIFT", "1s")];
    let one = Server::try_start(Arc::clone(&block), &both).unwrap();
    // The gateway's port for check-ins belongs to the first, and so do the machine's rules and the door.
    let second =
        [&both[..], &[("SPINDOWN_CHECK_IN_ENABLED", "false"), ("SPINDOWN_FIREWALL_ENABLED", "false")]].concat();
    let other = Server::try_start(block, &second).unwrap();

    let made = one.create("labels=class%3Dlogic").await;
    let id = made["id"].as_str().unwrap();
    let known = |a: &Answer| a.status == 200 && a.json["ssh_host_keys"] != Value::Array(vec![]);
    let there = other.wait_for(&path(&made), "known to the other", known).await.json;
    assert_eq!((&there["labels"], &there["ports"]), (&made["labels"], &made["ports"]));
    // A report to one is seen by the other, and what is in use there is not stopped here.
    report(&made, 2);
    other.wait_for(&path(&made), "in use", |a| a.json["active"] == "2").await;
    assert_eq!(one.patch(&path(&made), "idle_timeout=2").await.status, 200);
    for server in [&one, &other] {
        assert_eq!(server.wait_for_status(id, "stopped").await["stopped_by"], "idle");
    }
    let started = other.patch(&path(&made), "status=running&idle_timeout=never").await;
    assert_eq!(started.status, 200, "{:#}", started.json);
    one.wait_for_status(id, "running").await;
    assert_ne!(port(&other.create("name=second").await), port(&made));

    // What one removes is gone for the other too, not missing for ever.
    assert_eq!(other.delete(&path(&made)).await.status, 204);
    one.wait_for(&path(&made), "gone", |a| a.status == 404).await;
    let listed = one.get("/v1/containers").await.json;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
}
