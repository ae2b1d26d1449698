//! Every example of spin-docker's document, as printed.

use std::net::TcpStream;

use reqwest::Method;
use serde_json::Value;

use super::{QUIET, assert_problem, ids, image, light_image, look, report, text, until_known};
use crate::support::{
    block::IMAGE,
    server::{Server, run},
};

/// The members that the document shows, with the types that it shows.
fn assert_documented(container: &Value, status: &str) {
    for member in ["status", "name", "active", "ssh_port", "image", "container_id", "uri", "app_port"] {
        assert!(container[member].is_string(), "{member} is a text: {container:#}");
    }
    assert_eq!(container["status"], status);
    let id = text(&container["container_id"]);
    assert!(id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    assert_eq!(container["uri"], format!("/v1/containers/{id}"));
    assert!(text(&container["name"]).starts_with('/'), "{container:#}");
    assert!(text(&container["active"]).parse::<u64>().is_ok(), "{container:#}");
}

/// A documented port: open, and within the block's.
fn assert_open(server: &Server, port: &Value) {
    let (first, last) = server.block.ports();
    let port: u16 = text(port).parse().unwrap();
    assert!((first..=last).contains(&port), "{port}");
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[tokio::test]
async fn containers_are_made_as_documented() {
    let server = Server::start(&[]);
    let images = server.get("/v1/images").await;
    assert_eq!(images.status, 200);
    let images: Vec<String> = serde_json::from_value(images.json).expect("a list of texts");
    assert!(images.contains(&format!("{IMAGE}:latest")), "{images:?}");
    assert!(images.iter().all(|name| name.contains(':')), "tagged: {images:?}");
    let empty = server.get("/v1/containers").await;
    assert_eq!((empty.status, empty.json), (200, Value::Array(vec![])));

    let mut made = Vec::new();
    let (json, form) = (format!("{{\"image\": \"{IMAGE}\"}}"), format!("image={IMAGE}"));
    for (path, body) in
        [("/v1/containers", json.as_str()), ("/v1/containers", &form), (&*format!("/v1/containers?{form}"), "")]
    {
        let answer = server.post(path, body).await;
        assert_eq!(answer.status, 201, "{path} {body}: {:#}", answer.json);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_documented(&answer.json, "running");
        assert_eq!(answer.json["image"], IMAGE);
        assert_eq!(answer.json["active"], "0");
        assert_open(&server, &answer.json["ssh_port"]);
        assert_eq!(answer.json["app_port"], "");
        // Where it says it is, it is.
        let location = answer.headers["location"].to_str().unwrap();
        assert_eq!(location, text(&answer.json["uri"]));
        let one = server.get(location).await;
        assert_eq!(one.status, 200);
        assert_documented(&one.json, "running");
        assert_eq!(one.json["id"], answer.json["id"]);
        made.push(answer.json);
    }
    let list = server.get("/v1/containers").await;
    let made: Vec<_> = made.iter().map(|c| text(&c["id"])).collect();
    assert_eq!((list.status, ids(&list.json)), (200, made));
    list.json.as_array().unwrap().iter().for_each(|c| assert_documented(c, "running"));
}

#[tokio::test]
async fn the_ports_are_those_that_the_image_exposes() {
    let server = Server::start(&[]);
    let both = image("ssh-and-app", &format!("FROM {IMAGE}\nEXPOSE 8080 8000\n"));
    let answer = server.post("/v1/containers", &format!("image={both}")).await;
    assert_eq!(answer.status, 201, "{:#}", answer.json);
    assert_documented(&answer.json, "running");
    let ports = answer.json["ports"].as_array().unwrap();
    let host = |inside: u16| {
        let port = ports.iter().find(|p| p["container_port"] == inside && p["protocol"] == "tcp");
        port.unwrap_or_else(|| panic!("{ports:?}"))["host_port"].to_string()
    };
    assert_eq!(ports.len(), 3);
    assert_eq!(answer.json["ssh_port"], host(22));
    assert_eq!(answer.json["app_port"], host(8000), "the lowest besides SSH");
    let published = run("docker", &["port", text(&answer.json["container_id"]), "8080/tcp"]);
    assert!(published.ends_with(&format!(":{}", host(8080))), "{published}");
}

#[tokio::test]
async fn containers_are_stopped_and_started_as_documented() {
    let server = Server::start(&[]);
    let light = light_image();
    let first = server.post("/v1/containers", &format!("image={light}")).await.json;
    let middle = server.create("").await;
    let last = server.post("/v1/containers", &format!("image={light}")).await.json;
    let order = [&first, &middle, &last].map(|c| text(&c["id"]));
    assert_eq!(first["ssh_port"], "");
    let uri = text(&middle["uri"]);
    run("docker", &["exec", text(&middle["container_id"]), "touch", "/home/student/work"]);
    let middle = until_known(&server, uri).await;

    let again = server.patch(uri, r#"{"status": "running"}"#).await;
    assert_eq!((again.status, &again.json["ssh_port"]), (200, &middle["ssh_port"]), "what runs stays so");

    let stopping = server.patch(uri, r#"{"status": "stopped"}"#).await;
    assert_eq!(stopping.status, 200);
    assert_documented(&stopping.json, "stopping");
    assert_eq!(stopping.json["ssh_port"], middle["ssh_port"]);
    let stopped = server.wait_for_status(order[1], "stopped").await;
    assert_documented(&stopped, "stopped");
    for member in ["ssh_port", "app_port"] {
        assert_eq!(stopped[member], "", "{member}");
    }
    for member in ["name", "image", "container_id", "uri", "ports"] {
        assert_eq!(stopped[member], middle[member], "{member}");
    }
    assert_eq!(stopped["stopped_by"], "user");
    assert!(TcpStream::connect(("127.0.0.1", text(&middle["ssh_port"]).parse::<u16>().unwrap())).is_err());
    let list = server.get("/v1/containers").await.json;
    assert_eq!(ids(&list), order, "a stopped container keeps its place");
    assert_eq!(list[1], stopped);
    let still = server.patch(uri, "status=stopped").await;
    assert_eq!((still.status, &still.json["status"]), (200, &Value::from("stopped")), "what is stopped stays so");

    let running = server.patch(uri, r#"{"status": "running"}"#).await;
    assert_eq!(running.status, 200);
    assert_documented(&running.json, "running");
    for member in ["ssh_port", "app_port", "container_id", "ports", "ssh_host_keys"] {
        assert_eq!(running.json[member], middle[member], "{member} is for life");
    }
    assert_eq!(running.json["stopped_by"], Value::Null);
    assert_open(&server, &running.json["ssh_port"]);
    run("docker", &["exec", text(&middle["container_id"]), "test", "-e", "/home/student/work"]);
}

#[tokio::test]
async fn containers_are_deleted_as_documented() {
    let server = Server::start(&[]);
    let light = light_image();
    let [running, stopped] =
        [server.post("/v1/containers", &format!("image={light}")).await.json, server.create("").await];
    server.patch(text(&stopped["uri"]), "status=stopped").await;
    server.wait_for_status(text(&stopped["id"]), "stopped").await;
    for container in [&running, &stopped] {
        let (uri, id) = (text(&container["uri"]), text(&container["container_id"]));
        let gone = server.delete(uri).await;
        assert_eq!((gone.status, gone.json), (204, Value::Null));
        assert!(run("docker", &["ps", "-aq", "--filter", &format!("id={id}")]).is_empty());
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let body = if method == Method::PATCH { r#"{"status": "stopped"}"# } else { "" };
            let missing = server.call(method.clone(), uri, body).await;
            assert_problem(method.as_str(), &missing, 404, &[id]);
            assert_eq!(missing.json["instance"], uri);
        }
    }
    // Asking for what is not there has made no record of it.
    assert_eq!(server.get("/v1/containers").await.json, Value::Array(vec![]));
}

#[tokio::test]
async fn a_container_checks_in_as_documented() {
    let server = Server::start(&[]);
    let [quiet, busy] = [server.create(QUIET).await, server.create(QUIET).await];
    assert_eq!(report(&server, text(&busy["container_id"]), "active-connections=3"), 204);
    assert_eq!(look(&server, text(&busy["id"])).await["active"], "3");
    assert_eq!(look(&server, text(&quiet["id"])).await["active"], "0");
    assert_eq!(report(&server, text(&busy["container_id"]), "active-connections=0"), 204);
    let list = server.get("/v1/containers").await.json;
    list.as_array().unwrap().iter().for_each(|c| assert_eq!(c["active"], "0"));
}

#[tokio::test]
async fn an_audit_reads_every_container_from_the_engine_first() {
    let server = Server::start(&[]);
    let container = server.create("").await;
    let id = text(&container["container_id"]);
    run("docker", &["kill", id]);
    let audited = server.get("/v1/containers?audit=true").await;
    assert_eq!((audited.status, &audited.json[0]["status"]), (200, &Value::from("stopped")), "at once");
    run("docker", &["start", id]);
    server.wait_for_status(text(&container["id"]), "running").await;
    run("docker", &["rm", "-f", id]);
    let audited = server.get("/v1/containers?audit=true").await;
    assert_eq!((audited.status, &audited.json[0]["status"]), (200, &Value::from("missing")));
    assert_eq!(server.get("/v1/containers?audit=false").await.status, 200);
    for bad in ["maybe", "1", "True", ""] {
        let refused = server.get(&format!("/v1/containers?audit={bad}")).await;
        assert_problem(bad, &refused, 400, &["audit", "true or false"]);
    }
}

#[tokio::test]
async fn credentials_are_asked_for_as_documented() {
    let server = Server::start(&[]);
    for path in ["/v1/images", "/v1/containers"] {
        let right = server.send(server.request(Method::GET, path, "").basic_auth("admin", Some("spindocker"))).await;
        assert_eq!(right.status, 200, "{path}");
        for request in [
            server.request(Method::GET, path, ""),
            server.request(Method::GET, path, "").basic_auth("admin", Some("docker")),
        ] {
            let refused = server.send(request).await;
            assert_problem(path, &refused, 401, &[]);
            assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm=\""));
        }
    }
}
