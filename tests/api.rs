//! The native API as its callers meet it: the binary, a real Docker Engine, the sandbox image.

mod access;
mod bulk;
mod check_in;
mod config;
mod create;
mod disk;
mod documented;
mod ending;
mod errors;
mod event;
mod find;
mod image;
mod ladder;
mod limits;
mod logs;
mod volumes;

use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::server::{Answer, Server};

/// What no caller may ever read: the words of engines, runtimes and languages, and their files.
const INTERNALS: [&str; 14] = [
    "Error response",
    "OCI",
    "runc",
    "containerd",
    "driver failed",
    "endpoint",
    "overlay",
    "/var/lib",
    "/var/run",
    "docker",
    "bollard",
    "hyper",
    "panicked",
    "os error",
];

/// Checks that an answer is a problem as every error is told, of this status, with these words in its message.
fn assert_problem(what: &str, answer: &Answer, status: u16, words: &[&str]) {
    let json = &answer.json;
    assert_eq!(answer.status, status, "{what}: {json:#}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    for member in ["type", "title", "detail", "message", "instance", "request_id"] {
        assert!(json[member].as_str().is_some_and(|t| !t.is_empty()), "{what}: {member} in {json:#}");
    }
    assert_eq!(json["status"], status, "{what}");
    assert_eq!(json["detail"], json["message"], "{what}");
    assert_eq!(answer.headers["x-request-id"], text(&json["request_id"]), "{what}");
    let message = text(&json["message"]);
    for word in words {
        assert!(message.contains(word), "{what}: {word:?} in {message:?}");
    }
    for word in INTERNALS {
        assert!(!message.contains(word), "{what}: {word:?} in {message:?}");
    }
}

/// A form's field that keeps the image's own cron from reporting: what is reported is up to the test.
const QUIET: &str = "env=SPINDOWN_CHECK_IN_URL=http://127.0.0.1:9/";

/// A member that must be a text.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

/// The ids of a list, in its order.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|c| text(&c["id"])).collect()
}

/// The container as it is now.
async fn look(server: &Server, id: &str) -> Value {
    let answer = server.get(&format!("/v1/containers/{id}")).await;
    assert_eq!(answer.status, 200, "{:#}", answer.json);
    answer.json
}

/// The container at `uri`, once its host keys are known.
async fn until_known(server: &Server, uri: &str) -> Value {
    server.wait_for(uri, "known by its host keys", |a| a.json["ssh_host_keys"] != Value::Array(vec![])).await.json
}

/// An image of the test's own, made once for all of them.
fn image(name: &str, recipe: &str) -> String {
    let tag = format!("spindown-test/{name}");
    let lock = File::create(std::env::temp_dir().join("spindown-test-image")).unwrap();
    lock.lock().unwrap();
    let mut build = Command::new("docker");
    build.args(["build", "-q", "-t", &tag, "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut build = build.spawn().unwrap();
    build.stdin.take().unwrap().write_all(recipe.as_bytes()).unwrap();
    assert!(build.wait().unwrap().success(), "{recipe}");
    tag
}

/// An image that starts fast and serves nothing, on the ports 80 and 8080.
fn light_image() -> String {
    image("light", "FROM spindown/base\nEXPOSE 8080 80\nCMD [\"sleep\", \"3600\"]\n")
}

/// One request, by hand, as a container sends it: the sandbox image has no other client than its shell.
fn written(method: &str, path: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends requests from inside a container to its gateway, over one connection, and answers their statuses.
fn ask_gateway(server: &Server, container: &str, requests: &[String]) -> Vec<u16> {
    let gateway = server.block.network().gateway().to_string();
    let script = "exec 3<>/dev/tcp/$1/80 && cat >&3 && timeout 20 cat <&3";
    let mut inside = Command::new("docker");
    inside.args(["exec", "-i", container, "bash", "-c", script, "bash", &gateway]);
    let mut inside = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (last, others) = requests.split_last().unwrap();
    let all = others.concat() + &last.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    inside.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
    let output = inside.wait_with_output().unwrap();
    assert!(output.status.success(), "the gateway does not close the connection");
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = |line: &str| line.split_once("HTTP/1.1 ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
    answers.lines().filter_map(status).collect()
}

/// Reports from inside a container, as a form, and answers the status.
fn report(server: &Server, container: &str, body: &str) -> u16 {
    ask_gateway(server, container, &[written("POST", "/v1/check-in", "application/x-www-form-urlencoded", body)])[0]
}
