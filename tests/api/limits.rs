//! What happens when there is no more: ports, addresses, memory, the engine itself.

use std::{fs, net::TcpListener, os::unix::fs::symlink};

use futures::future::join_all;
use serde_json::Value;

use super::{assert_problem, ids, light_image, look, text};
use crate::support::{
    block::Block,
    server::{Server, run},
};

/// The block's containers at the engine, whatever the server says.
fn at_engine(server: &Server) -> usize {
    let filter = format!("label=spindown.managed={}", server.block.instance());
    run("docker", &["ps", "-aq", "--filter", &filter]).lines().count()
}

#[tokio::test]
async fn ports_run_out_and_come_back() {
    let block = std::sync::Arc::new(Block::take());
    let last = (block.ports().0 + 2).to_string();
    let server = Server::try_start(block, &[("SPINDOWN_PORTS_LAST", &last)]).unwrap();
    let body = format!("image={}", light_image());
    // Two ports each: the third port is one too few.
    let first = server.post("/v1/containers", &body).await;
    assert_eq!(first.status, 201, "{:#}", first.json);
    let refused = server.post("/v1/containers", &body).await;
    assert_problem("no port", &refused, 503, &["no port is left", &last]);
    assert_eq!((at_engine(&server), ids(&server.get("/v1/containers").await.json).len()), (1, 1));
    server.delete(text(&first.json["uri"])).await;
    assert_eq!(server.post("/v1/containers", &body).await.status, 201);
}

#[tokio::test]
async fn addresses_run_out_and_come_back() {
    let block = std::sync::Arc::new(Block::take());
    let subnet = ipnet::Ipv4Net::new(block.network().subnet.network(), 28).unwrap().to_string();
    let server = Server::try_start(block, &[("SPINDOWN_NETWORK_SUBNET", &subnet)]).unwrap();
    let body = format!("image={}", light_image());
    // Sixteen, less the network's own, the broadcast's and the gateway's.
    let made = join_all((0..13).map(|_| server.post("/v1/containers", &body))).await;
    made.iter().for_each(|a| assert_eq!(a.status, 201, "{:#}", a.json));
    let refused = server.post("/v1/containers", &body).await;
    assert_problem("no address", &refused, 503, &["no address is left", &subnet]);
    assert_eq!(at_engine(&server), 13);
    server.delete(text(&made[5].json["uri"])).await;
    assert_eq!(server.post("/v1/containers", &body).await.status, 201);
}

#[tokio::test]
async fn without_memory_nothing_is_started() {
    let server = Server::start(&[]);
    let body = format!("image={}", light_image());
    let made = server.post("/v1/containers", &body).await.json;
    let (id, uri) = (text(&made["id"]), text(&made["uri"]));
    server.patch(uri, "status=stopped").await;
    server.wait_for_status(id, "stopped").await;
    let server = server.start_again(&[("SPINDOWN_LIMITS_MEMORY_RESERVE", "1000000g")]);
    for (what, refused) in
        [("create", server.post("/v1/containers", &body).await), ("start", server.patch(uri, "status=running").await)]
    {
        assert_problem(what, &refused, 503, &["no memory left", "memory_reserve"]);
    }
    assert_eq!(at_engine(&server), 1);
    assert_eq!(look(&server, id).await["status"], "stopped");
}

#[tokio::test]
async fn a_port_that_somebody_else_took_is_told() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let (id, uri, port) = (text(&made["id"]), text(&made["uri"]), text(&made["app_port"]));
    server.patch(uri, "status=stopped").await;
    server.wait_for_status(id, "stopped").await;
    let squatter = TcpListener::bind(("0.0.0.0", port.parse().unwrap())).unwrap();
    let refused = server.patch(uri, "status=running").await;
    assert_problem("taken", &refused, 409, &[port]);
    assert_eq!(look(&server, id).await["status"], "stopped");
    drop(squatter);
    let started = server.patch(uri, "status=running").await;
    assert_eq!((started.status, &started.json["app_port"]), (200, &made["app_port"]), "{:#}", started.json);

    // One that is to be given out is passed over instead.
    let next: Vec<u16> =
        made["ports"].as_array().unwrap().iter().map(|p| p["host_port"].as_u64().unwrap() as u16).collect();
    let next = next.iter().max().unwrap() + 1;
    let _squatter = TcpListener::bind(("0.0.0.0", next)).unwrap();
    let other = server.post("/v1/containers", &format!("image={}", light_image())).await;
    assert_eq!(other.status, 201, "{:#}", other.json);
    assert!(other.json["ports"].as_array().unwrap().iter().all(|p| p["host_port"] != next), "{:#}", other.json);
    assert_eq!(at_engine(&server), 2);
}

#[tokio::test]
async fn reads_go_on_without_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    symlink("/var/run/docker.sock", &socket).unwrap();
    let server = Server::start(&[("SPINDOWN_ENGINE", &format!("unix://{}", socket.display()))]);
    let body = format!("image={}", light_image());
    let made = server.post("/v1/containers", &body).await.json;
    let (id, uri) = (text(&made["id"]), text(&made["uri"]));
    assert_eq!(server.get("/health").await.status, 200);

    fs::remove_file(&socket).unwrap();
    for (what, refused) in [
        ("images", server.get("/v1/images").await),
        ("audit", server.get("/v1/containers?audit=true").await),
        ("create", server.post("/v1/containers", &body).await),
        ("stop", server.patch(uri, "status=stopped").await),
        ("rename", server.patch(uri, "name=other").await),
        ("delete", server.delete(uri).await),
    ] {
        assert_problem(what, &refused, 503, &["the engine does not answer"]);
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0, "{what}");
    }
    // What is known is still told, and nothing was done by halves.
    let known = look(&server, id).await;
    assert_eq!((&known["status"], &known["name"]), (&"running".into(), &made["name"]));
    assert_eq!(ids(&server.get("/v1/containers").await.json), [id]);
    assert_eq!(server.get(&format!("{uri}/activity")).await.status, 200);
    let health = server.wait_for("/health", "failing", |a| a.status == 503).await.json;
    assert_eq!((&health["status"], &health["checks"]["engine"]["ok"]), (&"failing".into(), &false.into()));
    assert_eq!(health["checks"]["store"]["ok"], true);

    symlink("/var/run/docker.sock", &socket).unwrap();
    assert_eq!(server.patch(uri, "status=stopped").await.status, 200);
    server.wait_for_status(id, "stopped").await;
    server.wait_for("/health", "well", |a| a.status == 200).await;
}

#[tokio::test]
async fn a_server_that_has_not_met_the_engine_says_so() {
    let server = Server::start(&[]);
    let body = format!("image={}", light_image());
    let made = server.post("/v1/containers", &body).await.json;
    let uri = text(&made["uri"]);
    let server = server.start_again(&[("SPINDOWN_ENGINE", "unix:///nowhere")]);
    for (what, refused) in [
        ("create", server.post("/v1/containers", &body).await),
        ("images", server.get("/v1/images").await),
        // That there is nothing would be a lie: it is not known yet.
        ("list", server.get("/v1/containers").await),
        ("one", server.get(uri).await),
        ("delete", server.delete(uri).await),
    ] {
        assert_problem(what, &refused, 503, &["the engine"]);
        assert!(refused.headers.contains_key("retry-after"), "{what}");
    }
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json["checks"]["engine"]["ok"]), (503, &Value::from(false)));
}
