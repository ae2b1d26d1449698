//! The doctor, beside a server and without one, over an engine that hangs, and over what is not there.

use std::{net::TcpListener, os::unix::net::UnixListener, process::Stdio};

use super::*;
use crate::support::server::send;

/// What the doctor says as JSON, whether it found problems or not: by check, its level, message and remedy.
fn examined(server: &Server, settings: &[(&str, &str)]) -> Value {
    let (Ok(told) | Err(told)) = server.verb(&["doctor", "--json"], settings);
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn finding<'a>(told: &'a Value, check: &str) -> &'a Value {
    let all = told["checks"].as_array().unwrap();
    all.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check} in {told:#}"))
}

#[track_caller]
fn assert_found(told: &Value, check: &str, level: &str, words: &str) {
    let finding = finding(told, check);
    assert_eq!(finding["level"], level, "{finding:#}");
    assert!(finding.to_string().contains(words), "{words}: {finding:#}");
    assert!(level == "ok" || finding["mend"].is_string(), "what to do? {finding:#}");
}

#[tokio::test]
async fn the_doctor_tells_what_is_well_beside_a_server_and_without_one() {
    let mut server = Server::start(&[]);
    let made = server.create("").await;
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    let settings = [("ROCKET_PORT", port.as_str())];
    let told = examined(&server, &settings);
    for (check, words) in [
        ("config", "sound"),
        ("api", "all well"),
        ("engine", "Docker"),
        ("network", "is there"),
        ("rules", "in place"),
        ("door", "connections to sleeping containers come to"),
        ("store", "hands out backups, 1 containers"),
        ("image", "exposes 22"),
    ] {
        assert_found(&told, check, "ok", words);
    }
    // Its own container holds a port.
    let ports = finding(&told, "ports");
    assert!(!ports["message"].as_str().unwrap().contains(&super::port(&made).to_string()) || ports["level"] == "ok");
    server.end_with("TERM");
    let told = examined(&server, &settings);
    assert_found(&told, "api", "ok", "not running");
    assert_found(&told, "store", "ok", "1 containers");
    assert_found(&told, "check_in", "ok", "free");

    // Somebody sits where the API and a container are to be.
    let (first, _) = server.block.ports();
    let _api = TcpListener::bind(("127.0.0.1", first + 40)).unwrap();
    let _container = TcpListener::bind(("127.0.0.1", first + 41)).unwrap();
    let own = (first + 40).to_string();
    let told = examined(&server, &[("ROCKET_PORT", &own)]);
    assert_found(&told, "ports", "warning", &(first + 41).to_string());
    // It accepts and says nothing.
    assert_found(&told, "api", "problem", "does not answer");
    assert!(server.verb(&["doctor"], &[("ROCKET_PORT", &own)]).unwrap_err().contains("PROBLEM"));
}

#[tokio::test]
async fn the_doctor_changes_nothing_and_waits_for_nobody() {
    let mut server = Server::start(&[]);
    server.end_with("TERM");
    let hung = server.folder().join("engine.sock");
    // Takes connections and never answers.
    let _engine = UnixListener::bind(&hung).unwrap();
    let begun = Instant::now();
    let address = format!("unix://{}", hung.display());
    let told = examined(&server, &[("SPINDOWN_ENGINE", &address), ("SPINDOWN_DATA", "nowhere")]);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_found(&told, "engine", "problem", "engine.sock");
    assert_found(&told, "network", "warning", "engine");
    assert_found(&told, "store", "ok", "made at the start");
    assert!(!server.folder().join("nowhere").exists());

    let told = examined(&server, &[("SPINDOWN_REDIS_URL", "redis://:hush@127.0.0.1:1")]);
    assert_found(&told, "store", "problem", "127.0.0.1:1");
    assert!(!told.to_string().contains("hush"));
    let told = examined(&server, &[("SPINDOWN_PORTS_FIRST", "0")]);
    assert_found(&told, "config", "problem", "spindown.ports");
    let told =
        examined(&server, &[("SPINDOWN_NETWORK_SUBNET", "127.0.0.0/16"), ("SPINDOWN_FIREWALL_ENABLED", "false")]);
    assert_found(&told, "network", "problem", "docker network rm");
    assert_found(&told, "rules", "warning", "switched off");
}

#[tokio::test]
async fn a_server_that_gives_hints_shows_first_what_the_doctor_found() {
    let mut server = Server::start(&[]);
    server.end_with("TERM");
    let serving = server.command(&["serve", "--hints"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut serving = serving.unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C")).collect();
    send("TERM", serving.id());
    assert!(serving.wait().unwrap().success());
    let at = |words: &str| told.iter().position(|l| l.contains(words)).unwrap_or_else(|| panic!("{words}: {told:#?}"));
    assert!(at("all well") < at("Spindown serves at http://"), "{told:#?}");
    assert!(at("a server has the file open") < at("Hand out a sandbox"), "{told:#?}");
}
