//! `/v1/events` and `/metrics`: what a machine reads along.

use std::{
    io::{Read, Write},
    time::Duration,
};

use reqwest::{Method, Response};
use serde_json::Value;
use spindown::meter::{Form, METRICS};

use super::{assert_problem, text};
use crate::support::server::{SOON, Server};

/// One message of a stream of events.
#[derive(Debug)]
struct Message {
    id: String,
    event: String,
    data: Value,
}

/// A client that reads events as they come.
struct Stream {
    response: Response,
    read: String,
}

impl Stream {
    async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let request = server.request(Method::GET, &format!("/v1/events{query}"), "");
        let request = request.basic_auth("admin", Some("spindocker"));
        let request = if let Some(last) = last { request.header("Last-Event-ID", last) } else { request };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    /// The next message; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| {
                    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    line.unwrap_or_default().to_owned()
                };
                let (id, event) = (field("id"), field("event"));
                let data = serde_json::from_str(&field("data")).unwrap_or_default();
                self.read = rest.to_owned();
                // What is sent to keep the connection is no message.
                if event.is_empty() {
                    continue;
                }
                return Some(Message { id, event, data });
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("an event in time").unwrap()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next `count` messages.
    async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.push(self.next().await.expect("the stream goes on"));
        }
        messages
    }
}

fn words(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.event.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen_and_can_be_resumed() {
    let mut server = Server::start(&[]);
    let mut stream = Stream::open(&server, "", None).await;
    let made = server.create("labels=course%3Dcs1").await;
    let id = text(&made["id"]);
    server.patch(&format!("/v1/containers/{id}"), "status=stopped").await;
    let messages = stream.take(4).await;
    assert_eq!(words(&messages), ["created", "started", "stopping", "stopped"]);
    for message in &messages {
        assert_eq!(message.data["container"]["id"], made["id"], "{message:?}");
        assert_eq!(format!("/{}", text(&message.data["container"]["name"])), text(&made["name"]), "{message:?}");
        assert_eq!(message.data["id"].to_string(), message.id);
        assert_eq!(message.data["event"], message.event.as_str());
        assert!(text(&message.data["at"]).ends_with('Z'), "{message:?}");
    }
    let numbers: Vec<u64> = messages.iter().map(|m| m.id.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(messages[2].data["by"], "user");
    assert_eq!(messages[3].data["by"], "user");
    assert!(messages[3].data["exit_code"].is_i64(), "{messages:?}");

    // Whoever was cut off goes on where he was, by header or query.
    let mut resumed = Stream::open(&server, "", Some(&messages[1].id)).await;
    assert_eq!(words(&resumed.take(2).await), ["stopping", "stopped"]);
    let mut resumed = Stream::open(&server, &format!("?after={}", messages[2].id), None).await;
    assert_eq!(words(&resumed.take(1).await), ["stopped"]);
    // What was before the server began is not kept.
    let mut whole = Stream::open(&server, "?after=0", None).await;
    assert_eq!(words(&whole.take(5).await), ["gap", "created", "started", "stopping", "stopped"]);

    server.delete(&format!("/v1/containers/{id}")).await;
    assert_eq!(words(&stream.take(1).await), ["removed"]);

    // A reader keeps no server from ending, and is told the end.
    assert!(server.end_with("TERM").success());
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused() {
    let server = Server::start(&[]);
    for (query, words) in
        [("?after=now", &["after", "number"][..]), ("?after=-1", &["after", "number"]), ("?from=1", &["from"])]
    {
        let answer = server.get(&format!("/v1/events{query}")).await;
        assert_problem(query, &answer, 400, words);
    }
    let request = server.request(Method::GET, "/v1/events", "").basic_auth("admin", Some("spindocker"));
    let answer = server.send(request.header("Last-Event-ID", "x")).await;
    assert_problem("a header", &answer, 400, &["Last-Event-ID", "number"]);

    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(Stream::open(&server, "", None).await);
    }
    let answer = server.get("/v1/events").await;
    assert_problem("one too many", &answer, 429, &["64 readers"]);
    readers.pop();
    // The place is free as soon as the server has noticed: at the next event, or the next sign of life.
    server.create("").await;
    server.wait_for("/health", "well", |answer| answer.status == 200).await;
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let request = server.request(Method::GET, "/v1/events", "").basic_auth("admin", Some("spindocker"));
        let status = request.send().await.unwrap().status();
        if status == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The value of a series: its name and labels as they are written.
fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_goes_on() {
    let server = Server::start(&[("SPINDOWN_IDLE_SWEEP", "1s")]);
    let refused = server.send(server.request(Method::GET, "/metrics", "")).await;
    assert_problem("without credentials", &refused, 401, &["credentials"]);

    let id = text(&server.create("").await["id"]).to_owned();
    let down = text(&server.create("").await["id"]).to_owned();
    server.patch(&format!("/v1/containers/{down}"), "status=stopped").await;
    server.wait_for_status(&down, "stopped").await;
    server.post("/v1/check-in", "active-connections=1").await;
    let asleep = server.create("idle_timeout=1s").await;
    let asleep = server.wait_for_status(text(&asleep["id"]), "stopped").await;
    until_woken(&asleep);
    let frozen = server.create("").await;
    assert_eq!(server.patch(&format!("/v1/containers/{}", text(&frozen["id"])), "status=frozen").await.status, 200);
    until_woken(&frozen);
    let mut metrics = String::new();
    // The first sweeps may come before there is anything to judge.
    let judged = |answer: &crate::support::server::Answer| {
        metrics = answer.json.as_str().unwrap().to_owned();
        value(&metrics, "spindown_verdicts_total{verdict=\"keep\"}").is_some_and(|count| count >= 1.0)
            && metrics.contains("spindown_thaw_seconds_count")
    };
    let answer = server.wait_for("/metrics", "judged", judged).await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");

    for (name, form, about) in METRICS {
        assert!(metrics.contains(&format!("# HELP {name} {about}\n")), "{name}\n{metrics}");
        let form = match form {
            Form::Counter => "counter",
            Form::Gauge => "gauge",
            Form::Histogram => "histogram",
        };
        assert!(metrics.contains(&format!("# TYPE {name} {form}\n")), "{name}\n{metrics}");
    }
    for (series, expected) in [
        ("spindown_containers{status=\"running\"}", 3.0),
        ("spindown_containers{status=\"stopped\"}", 1.0),
        ("spindown_containers{status=\"missing\"}", 0.0),
        ("spindown_stops_total{by=\"user\",outcome=\"done\"}", 1.0),
        ("spindown_check_ins_total{outcome=\"refused\"}", 1.0),
        ("spindown_events_total{event=\"created\"}", 4.0),
        ("spindown_part_up{part=\"engine\"}", 1.0),
        ("spindown_engine_call_seconds_count{call=\"create\",outcome=\"ok\"}", 4.0),
        ("spindown_request_seconds_count{method=\"POST\",route=\"/v1/containers\",status=\"201\"}", 4.0),
        ("spindown_request_seconds_count{method=\"GET\",route=\"/metrics\",status=\"401\"}", 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}\n{metrics}");
    }
    assert!(value(&metrics, "spindown_sweep_seconds_count").unwrap() >= 1.0, "{metrics}");
    assert!(value(&metrics, "spindown_sweep_age_seconds").unwrap() < 3.0, "{metrics}");
    assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 1e6, "{metrics}");
    assert!(value(&metrics, "process_open_fds").unwrap() > 5.0, "{metrics}");
    assert!(metrics.contains("spindown_store_call_seconds_count{call=\"put_container\",outcome=\"ok\"}"), "{metrics}");
    // Nothing of what is in a request's path becomes a series of its own.
    assert!(!metrics.contains(&id), "{metrics}");
}

/// Connects to a container that sleeps until it has answered.
fn until_woken(container: &Value) {
    let port = container["ports"][0]["host_port"].as_u64().unwrap().try_into().unwrap();
    let mut stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
}
