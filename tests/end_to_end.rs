//! The whole of it, end to end: the real binary over a real engine and a real store, and what is done to them.
#![expect(clippy::disallowed_methods, reason = "they measure how long the real thing takes")]

mod backup;
mod behind;
mod demo;
mod disk;
mod doctor;
mod door;
mod engine;
mod faults;
mod images;
mod isolation;
mod kills;
mod ladder;
mod redis;
mod server;
mod student;

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::server::{Answer, SOON, Server, run};

/// This machine, as its users reach it.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A sandbox that ends only when it is made to.
const STUBBORN: &str = "command=trap+''+TERM;+while+:;+do+sleep+0.1;+done";

fn path(container: &Value) -> String {
    format!("/v1/containers/{}", container["id"].as_str().unwrap())
}

fn engine_id(container: &Value) -> &str {
    container["container_id"].as_str().unwrap()
}

/// Its first published port, also while it is stopped.
fn port(container: &Value) -> u16 {
    container["ports"][0]["host_port"].as_u64().unwrap().try_into().unwrap()
}

/// The words of an SSH server on this port, if one answers.
fn greeting(host: IpAddr, port: u16) -> Option<String> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(host, port), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.starts_with("SSH-").then_some(line)
}

/// Waits until an SSH server answers on this port.
async fn until_greeted(host: IpAddr, port: u16) {
    let deadline = Instant::now() + SOON;
    while greeting(host, port).is_none() {
        assert!(Instant::now() < deadline, "nothing answers at {host} {port}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for something that is not asked of the API.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Watches that something holds for a while.
async fn holds(span: Duration, mut check: impl AsyncFnMut()) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        check().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What `docker inspect` says in this format.
fn inspect(container: &Value, format: &str) -> String {
    run("docker", &["inspect", "--format", format, engine_id(container)])
}

fn runs(container: &Value) -> bool {
    inspect(container, "{{.State.Running}}") == "true"
}

/// Has a container report a number of connections now, from inside, as its cron would.
fn report(container: &Value, connections: u32) {
    let meter = "/etc/spindown/meters.d/test";
    let script =
        format!("printf '#!/bin/sh\\necho {connections}\\n' >{meter}; chmod +x {meter}; spindown-check-in try");
    let said = run("docker", &["exec", engine_id(container), "sh", "-ec", &script]);
    assert!(said.starts_with(&format!("active-connections={connections} to ")) && said.contains(" 204 "), "{said}");
}

/// What health says of a part: `true`, or what is wrong with it.
fn part<'a>(health: &'a Answer, name: &str) -> &'a Value {
    let check = &health.json["checks"][name];
    if check["ok"] == true { &check["ok"] } else { &check["message"] }
}

/// Waits until all is well.
async fn until_well(server: &Server) {
    server.wait_for("/health", "well", |a| a.status == 200).await;
}

/// Asserts that a call is refused for now, in time, and told when to try again.
#[track_caller]
fn assert_unavailable(answer: &Answer, words: &str) {
    assert_eq!(answer.status, 503, "{:#}", answer.json);
    assert!(answer.json["message"].as_str().unwrap().contains(words), "{:#}", answer.json);
    let wait: u64 = answer.headers["Retry-After"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}
