//! What is done behind Spindown's back shows within two seconds, and at once to whoever asks for an audit.

use super::*;
use crate::support::block::IMAGE;

/// The promise.
const BOUND: Duration = Duration::from_secs(2);

fn docker(arguments: &[&str]) {
    run("docker", arguments);
}

/// Waits until the container shows as this, no longer than was promised.
async fn shows(server: &Server, container: &Value, members: &[(&str, Value)]) -> Value {
    let right = |a: &Answer| members.iter().all(|(name, value)| a.json[*name] == *value);
    server.wait_within(BOUND, &path(container), &format!("{members:?}"), right).await.json
}

#[tokio::test]
async fn what_the_docker_client_does_shows_within_two_seconds() {
    // No correction from the list, only the events.
    let server = Server::start(&[("SPINDOWN_STORE_DRIFT", "1h")]);
    let made = server.create("").await;
    let id = engine_id(&made);
    let stopped_by = |who: &str| [("status", "stopped".into()), ("stopped_by", who.into())];
    let running = [("status", "running".into()), ("stopped_by", Value::Null), ("exit_code", Value::Null)];

    docker(&["stop", id]);
    shows(&server, &made, &stopped_by("user")).await;
    docker(&["start", id]);
    shows(&server, &made, &running).await;
    docker(&["kill", id]);
    let killed = shows(&server, &made, &stopped_by("user")).await;
    assert_eq!(killed["exit_code"], 137);
    docker(&["start", id]);
    shows(&server, &made, &running).await;
    docker(&["pause", id]);
    shows(&server, &made, &[("status", "frozen".into()), ("ssh_port", made["ssh_port"].clone())]).await;
    docker(&["unpause", id]);
    shows(&server, &made, &running).await;

    let (old, new) = (made["name"].as_str().unwrap(), format!("{}-renamed", server.block.instance()));
    docker(&["rename", id, &new]);
    shows(&server, &made, &[("name", format!("/{new}").into())]).await;
    assert_eq!(server.get(&format!("/v1/containers/{new}")).await.json["id"], made["id"]);
    assert_eq!(server.get(&format!("/v1/containers{old}")).await.status, 404);

    // A person who starts it by hand has it on the same ports.
    docker(&["restart", "-t", "1", id]);
    let restarted = shows(&server, &made, &running).await;
    assert_eq!(restarted["ports"], made["ports"]);
    until_greeted(HERE, port(&made)).await;
}

#[tokio::test]
async fn what_ends_by_itself_is_told_apart() {
    let server = Server::start(&[("SPINDOWN_STORE_DRIFT", "1h")]);
    let made = server.create("command=sleep+1;+exit+3").await;
    let ended = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!((&ended["stopped_by"], &ended["exit_code"]), (&"self".into(), &3.into()), "{ended:#}");
    // The same command, and somebody who does not wait for its end.
    let made = server.create("command=sleep+60;+exit+3").await;
    docker(&["stop", "-t", "1", engine_id(&made)]);
    let ended = shows(&server, &made, &[("status", "stopped".into())]).await;
    assert_eq!(ended["stopped_by"], "user", "{ended:#}");
}

#[tokio::test]
async fn an_audit_shows_a_change_at_once() {
    let server = Server::start(&[("SPINDOWN_STORE_DRIFT", "1h")]);
    let made = server.create("").await;
    let now = async || server.get("/v1/containers?audit=true").await.json[0].clone();
    for _ in 0..3 {
        docker(&["kill", engine_id(&made)]);
        let seen = now().await;
        assert_eq!((&seen["status"], &seen["stopped_by"]), (&"stopped".into(), &"user".into()), "{seen:#}");
        docker(&["start", engine_id(&made)]);
        assert_eq!(now().await["status"], "running");
    }
    docker(&["rm", "-f", engine_id(&made)]);
    assert_eq!(now().await["status"], "missing");
}

#[tokio::test]
async fn what_was_removed_is_missing_until_it_is_deleted() {
    let block = std::sync::Arc::new(crate::support::block::Block::take());
    // One port only, so that it is seen who has it.
    let only = block.ports().0.to_string();
    let settings =
        [("SPINDOWN_STORE_DRIFT", "1h"), ("SPINDOWN_PORTS_FIRST", only.as_str()), ("SPINDOWN_PORTS_LAST", &only)];
    let server = Server::try_start(block, &settings).unwrap();
    let made = server.create("").await;
    docker(&["rm", "-f", engine_id(&made)]);
    let gone = shows(&server, &made, &[("status", "missing".into())]).await;
    assert_eq!((&gone["ssh_port"], &gone["ports"]), (&"".into(), &made["ports"]));
    assert_eq!(server.get("/v1/containers").await.json[0]["status"], "missing");
    let listed = server.get("/v1/containers?status=missing").await.json;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    for change in ["status=running", "status=stopped", "name=other", "authorized_keys="] {
        let refused = server.patch(&path(&made), change).await;
        assert_eq!(refused.status, 409, "{change}: {:#}", refused.json);
        assert!(refused.json["message"].as_str().unwrap().contains("DELETE"), "{:#}", refused.json);
    }
    let full = server.post("/v1/containers", &format!("image={IMAGE}")).await;
    assert_eq!(full.status, 503, "{:#}", full.json);
    assert!(full.json["message"].as_str().unwrap().contains("no port is left"), "{:#}", full.json);

    assert_eq!(server.delete(&path(&made)).await.status, 204);
    assert_eq!(server.get(&path(&made)).await.status, 404);
    assert_eq!(server.delete(&path(&made)).await.status, 404);
    let next = server.create("").await;
    assert_eq!(port(&next), port(&made));
}

/// A container that is none of Spindown's, removed when this is dropped.
struct Stranger(String);

impl Stranger {
    fn start(more: &[&str]) -> Self {
        let run_it = ["run", "-d", "--entrypoint", "sleep"];
        Self(run("docker", &[&run_it[..], more, &[IMAGE, "600"]].concat()))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

#[tokio::test]
async fn what_others_made_is_neither_shown_nor_touched() {
    let server = Server::start(&[]);
    let instance = server.block.instance();
    let ours = server.create("").await;
    let plain = Stranger::start(&["--name", &format!("{instance}-plain")]);
    // On our network, under our id, but of another instance.
    let id = format!("spindown.id={}", ours["id"].as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "a"));
    let other = Stranger::start(&["--network", &instance, "--label", "spindown.managed=other", "--label", &id]);
    for query in ["", "?audit=true"] {
        let listed = server.get(&format!("/v1/containers{query}")).await.json;
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
        assert_eq!(listed[0]["id"], ours["id"]);
    }
    for stranger in [&plain, &other] {
        let path = format!("/v1/containers/{}", stranger.0);
        assert_eq!(server.get(&path).await.status, 404);
        assert_eq!(server.patch(&path, "status=stopped").await.status, 404);
        assert_eq!(server.delete(&path).await.status, 404);
        assert_eq!(run("docker", &["inspect", "--format", "{{.State.Running}}", &stranger.0]), "true");
    }
    assert_eq!(server.get(&format!("/v1/containers/{instance}-plain")).await.status, 404);
}
