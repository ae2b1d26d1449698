//! What containers take of the disk, and the watermark.

use super::{QUIET, assert_problem, light_image, text};
use crate::support::server::{Server, run};

#[tokio::test]
async fn what_a_container_takes_is_told() {
    const MORE: u64 = 20 << 20;
    let server = Server::start(&[]);
    let fill = format!("head -c {MORE} /dev/zero >/root/fill; exec sleep 3600");
    let fill: String = fill.bytes().map(|b| format!("%{b:02X}")).collect();
    let body = format!("image={}&{QUIET}&command=sh&command=-c&command={fill}", light_image());
    let made = server.post("/v1/containers", &body).await.json;
    let uri = text(&made["uri"]);
    assert!(made["disk"].is_null(), "{made:#}");
    let shown = server.wait_for(uri, "measured", |a| a.json["disk"].is_object()).await.json;
    let bytes = shown["disk"]["bytes"].as_u64().unwrap();
    assert!((MORE..MORE + (1 << 20)).contains(&bytes), "{shown:#}");
    assert!(text(&shown["disk"]["measured_at"]) > text(&made["created_at"]), "{shown:#}");
    let disk = server.get("/v1/disk").await.json;
    assert_eq!(disk["containers"], serde_json::json!({"count": 1, "measured": 1, "bytes": bytes}));
    assert_eq!((&disk["largest"][0]["id"], &disk["largest"][0]["name"]), (&made["id"], &made["name"]));
    assert_eq!(disk["reserve"], 1 << 30);
    // As the system counts it.
    let root = run("docker", &["info", "--format", "{{.DockerRootDir}}"]);
    let told = run("df", &["--output=avail,size", "-B1", &root]);
    let told: Vec<u64> = told.lines().last().unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!(disk["total"], told[1]);
    assert!(disk["free"].as_u64().unwrap().abs_diff(told[0]) < 4 << 30, "{disk:#} {told:?}");
}

#[tokio::test]
async fn below_the_watermark_nothing_is_made_and_what_is_there_starts() {
    let server = Server::start(&[]);
    let body = format!("image={}", light_image());
    let made = server.post("/v1/containers", &format!("{body}&{QUIET}")).await.json;
    let (id, uri) = (text(&made["id"]), text(&made["uri"]));
    server.patch(uri, "status=stopped").await;
    server.wait_for_status(id, "stopped").await;
    let server = server.start_again(&[("SPINDOWN_LIMITS_DISK_RESERVE", "1000000g")]);
    server.wait_for(uri, "measured", |a| a.json["disk"].is_object()).await;
    let name = text(&made["name"]).trim_start_matches('/');
    let refused = server.post("/v1/containers", &body).await;
    assert_problem("create", &refused, 503, &["the disk is nearly full", "1000000.0 GiB", name, "limits.disk_reserve"]);
    assert_problem("pull", &server.post("/v1/images", "image=nobody/nothing").await, 503, &["nearly full"]);
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json["checks"]["disk"]["ok"]), (503, &false.into()), "{:#}", health.json);
    assert_eq!(server.patch(uri, "status=running").await.json["status"], "running");
    // Nothing has to be kept free.
    let server = server.start_again(&[("SPINDOWN_LIMITS_DISK_RESERVE", "0")]);
    assert_eq!(server.post("/v1/containers", &body).await.status, 201);
}
