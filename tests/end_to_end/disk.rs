//! The disk below the store is full: what needs no room goes on, nothing that has to be written down is begun, nobody is
//! stopped, and all of it ends by itself when there is room again.

use spindown::model::ContainerId;
use spindown::store::{Attempt, AttemptStore, embedded::Embedded};
use time::macros::datetime;

use super::*;
use crate::support::{block::IMAGE, disk::SmallDisk};

/// The idle timeout of the one that nobody uses.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Takes up what room the store's file has in itself, on a disk that is full.
async fn fill_the_file(folder: &std::path::Path) {
    let store = Embedded::open(folder).unwrap();
    let (mut size, mut refused, mut number) = (200_000, 0, 0);
    while refused < 4 {
        let attempt =
            Attempt { id: ContainerId::from_bits(1), digest: "x".repeat(size), at: datetime!(2100-01-01 0:00 UTC) };
        number += 1;
        let valid_from = datetime!(2020-01-01 0:00 UTC);
        match store.begin_attempt(&format!("filler {number}"), &attempt, valid_from).await {
            Ok(_) => refused = 0,
            Err(_) if size > 1 => size /= 2,
            Err(_) => refused += 1,
        }
        assert!(number < 10_000, "the file never fills");
    }
}

async fn assert_suspended(server: &Server, kept: &Value, idle: &Value, connections: u32) {
    let full = |a: &Answer| part(a, "store").as_str().is_some_and(|why| why.contains("disk is full"));
    let health = server.wait_for("/health", "failing for the full disk", full).await;
    assert_eq!((health.status, part(&health, "engine")), (503, &true.into()), "{:#}", health.json);
    let before = run("docker", &["ps", "-aq", "--filter", &format!("network={}", server.block.instance())]);
    for (method, path, body) in [
        ("POST", "/v1/containers".to_owned(), format!("image={IMAGE}")),
        ("PATCH", path(kept), "status=stopped".to_owned()),
        ("PATCH", path(kept), "idle_timeout=1".to_owned()),
        ("DELETE", path(kept), String::new()),
    ] {
        assert_unavailable(&server.call(method.parse().unwrap(), &path, &body).await, "full");
    }
    let after = run("docker", &["ps", "-aq", "--filter", &format!("network={}", server.block.instance())]);
    assert_eq!(before, after);
    report(kept, connections);
    assert_eq!(server.get(&path(kept)).await.json["active"], connections.to_string());
    holds(TIMEOUT + Duration::from_secs(2), async || {
        let now = server.get(&path(idle)).await;
        assert_eq!((now.status, &now.json["status"]), (200, &"running".into()), "{:#}", now.json);
    })
    .await;
    let why = server.get(&format!("{}/activity", path(idle))).await.json;
    assert!(why["verdict"] == "keep" && why["reason"].as_str().unwrap().contains("store"), "{why:#}");
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_begun_nobody_is_stopped_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: no file system may be mounted here");
        return;
    };
    let folder = disk.path().join("data");
    let settings = [("SPINDOWN_DATA", folder.to_str().unwrap()), ("SPINDOWN_IDLE_SWEEP", "1s")];
    let mut server = Server::start(&settings);
    let (kept, idle) = (server.create("").await, server.create("").await);
    let changed = server.patch(&path(&kept), "idle_timeout=77m&labels=course%3Dlogic").await;
    assert_eq!(changed.status, 200);
    let soon = format!("idle_timeout={}", TIMEOUT.as_secs());
    // While it serves, others fill the disk. What the file still has room for is written; nothing else is harmed.
    disk.fill();
    report(&kept, 1);
    assert_eq!(server.get("/v1/containers").await.json.as_array().unwrap().len(), 2);
    disk.clear();
    until_well(&server).await;
    assert_eq!(server.patch(&path(&idle), &soon).await.status, 200);

    // The worst case: not a page is left, not even in the file.
    server.end_with("TERM");
    disk.fill();
    fill_the_file(&folder).await;
    disk.fill();
    let mut server = server.start_again(&[]);
    assert_suspended(&server, &kept, &idle, 2).await;
    let doctor = server.verb(&["doctor"], &[]).unwrap_err();
    assert!(doctor.contains("0 MB free for the data folder"), "{doctor}");
    let carried = server.verb(&["backup", "-"], &[]).unwrap();
    assert_eq!(carried.lines().filter(|line| line.contains("\"kind\":\"container\"")).count(), 2);
    // Killed, it comes up over what there is.
    server.end_with("KILL");
    let server = server.start_again(&[]);
    assert_suspended(&server, &kept, &idle, 3).await;

    disk.clear();
    until_well(&server).await;
    let stopped = server.wait_for_status(idle["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
    let now = server.get(&path(&kept)).await.json;
    assert_eq!((&now["idle_timeout"], &now["labels"]["course"]), (&4_620.into(), &"logic".into()), "{now:#}");
    assert_eq!(now["active"], "3");
    assert_eq!(server.patch(&path(&kept), "idle_timeout=78m").await.status, 200);
    server.create("").await;
}
