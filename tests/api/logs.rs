//! Output over HTTP.

use std::time::Duration;

use reqwest::Method;

use super::{QUIET, assert_problem, light_image, look, text};
use crate::support::server::{SOON, Server, run};

/// Waits for the next piece of a stream, or its end.
async fn next(response: &mut reqwest::Response) -> Option<String> {
    let piece = tokio::time::timeout(SOON, response.chunk()).await.unwrap().unwrap()?;
    Some(String::from_utf8(piece.to_vec()).unwrap())
}

async fn follow(server: &Server, uri: &str) -> reqwest::Response {
    let request = server.request(Method::GET, &format!("{uri}/logs?follow=true"), "");
    request.basic_auth("admin", Some("spindocker")).send().await.unwrap()
}

/// A container that writes out whatever is put into its file `say`, and ends at the word `end`.
async fn talker(server: &Server) -> serde_json::Value {
    let script = "echo to-out; sleep 0.2; echo to-err >&2; tail -n +1 -F /tmp/say 2>/dev/null | while read -r line; do \
                  echo $line; [ \"$line\" != end ] || kill 1; done";
    let body = format!("image={}&{QUIET}&command=sh&command=-c&command={}", light_image(), encoded(script));
    let made = server.post("/v1/containers", &body).await;
    assert_eq!(made.status, 201, "{:#}", made.json);
    made.json
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn say(id: &str, line: &str) {
    run("docker", &["exec", id, "sh", "-c", &format!("echo {line} >>/tmp/say")]);
}

#[tokio::test]
async fn output_is_read_and_followed() {
    let server = Server::start(&[]);
    let made = talker(&server).await;
    let (uri, id) = (text(&made["uri"]), text(&made["container_id"]));
    let logs = format!("{uri}/logs");
    // Both streams, in the order in which they were written.
    let both = server.wait_for(&logs, "written", |a| a.json.as_str().is_some_and(|t| t.contains("to-err"))).await;
    assert_eq!(both.json, "to-out\nto-err\n");
    assert_eq!(both.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(server.get(&format!("{logs}?tail=1")).await.json, "to-err\n");
    assert_eq!(server.get(&format!("{logs}?tail=0")).await.json, serde_json::Value::Null);
    let dated = server.get(&format!("{logs}?tail=1&timestamps=true")).await.json;
    assert!(text(&dated).starts_with("20") && text(&dated).ends_with("Z to-err\n"), "{dated}");
    let used = look(&server, id).await["last_active_at"].clone();

    let mut response = follow(&server, uri).await;
    let mut told = String::new();
    while !told.ends_with("to-err\n") {
        told += &next(&mut response).await.unwrap();
    }
    say(id, "more");
    assert_eq!(next(&mut response).await.unwrap(), "more\n");
    assert_eq!(look(&server, id).await["last_active_at"], used, "to read is not to use");
    // Somebody who leaves is not missed.
    drop(follow(&server, uri).await);
    say(id, "end");
    assert_eq!(next(&mut response).await.unwrap(), "end\n");
    assert_eq!(next(&mut response).await, None, "it ends with the container");
    server.wait_for_status(id, "stopped").await;
    assert_eq!(server.get(&format!("{logs}?tail=all")).await.json, "to-out\nto-err\nmore\nend\n");

    for (query, words) in [
        ("tail=many", "tail: must be a number from 0 to 100000, or all"),
        ("tail=-1", "tail"),
        ("tail=100001", "tail"),
        ("follow=1", "follow: must be true or false"),
        ("since=1", "since: unknown field; known are tail, follow, timestamps"),
    ] {
        assert_problem(query, &server.get(&format!("{logs}?{query}")).await, 400, &[words]);
    }
    run("docker", &["rm", id]);
    server.wait_for_status(id, "missing").await;
    assert_problem("missing", &server.get(&logs).await, 409, &["removed behind"]);
    server.delete(uri).await;
    assert_problem("gone", &server.get(&logs).await, 404, &["there is no container"]);
}

#[tokio::test]
async fn whoever_follows_does_not_hold_the_servers_end_up() {
    let mut server = Server::start(&[]);
    let made = talker(&server).await;
    let mut response = follow(&server, text(&made["uri"])).await;
    assert!(next(&mut response).await.unwrap().contains("to-out"));
    let before = tokio::time::Instant::now();
    assert!(server.end_with("TERM").success());
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    while next(&mut response).await.is_some() {}
}
