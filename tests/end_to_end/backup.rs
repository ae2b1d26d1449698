//! The store is carried away and comes back: into a file while the server serves, from the file into an empty store, from
//! a file into Redis; records that cannot be read are set aside.

use std::{fs, os::unix::fs::PermissionsExt};

use redb::{Database, TableDefinition};

use super::*;
use crate::support::redis::RedisServer;

/// What the store alone knows of a container, and what identifies it.
fn facts(container: &Value) -> Value {
    let names =
        ["id", "container_id", "ports", "labels", "idle_timeout", "stopped_by", "last_active_at", "ssh_host_keys"];
    names.iter().map(|name| container[*name].clone()).collect()
}

async fn all_facts(server: &Server, containers: &[&Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for container in containers {
        all.push(facts(&server.get(&path(container)).await.json));
    }
    all
}

#[tokio::test]
async fn everything_is_as_it_was_after_a_restore() {
    let mut server = Server::start(&[("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_CONNECTIONS", "on")]);
    let (kept, by_user, idle) = (server.create("").await, server.create("").await, server.create("").await);
    let gone = server.create("").await;
    let changed = server.patch(&path(&kept), "idle_timeout=90m&labels=course%3Dlogic").await;
    assert_eq!(changed.status, 200, "{:#}", changed.json);
    assert_eq!(server.patch(&path(&idle), "idle_timeout=1").await.status, 200);
    assert_eq!(server.patch(&path(&by_user), "status=stopped").await.status, 200);
    let known = [&kept, &by_user, &idle];
    server.wait_for_status(by_user["id"].as_str().unwrap(), "stopped").await;
    let stopped = server.wait_for_status(idle["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
    report(&kept, 2);
    // The report is written with the next flush.
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    let before = all_facts(&server, &known).await;
    server.verb(&["backup", "store.backup"], &[]).unwrap();
    let file = server.folder().join("store.backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The same, on standard output, and no more than what the store has.
    let shown = server.verb(&["backup", "-"], &[]).unwrap();
    let records = |text: &str| text.lines().filter(|line| line.contains("\"kind\":\"container\"")).count();
    assert_eq!((records(&shown), records(&fs::read_to_string(&file).unwrap())), (4, 4));
    assert_eq!(server.get("/health").await.status, 200);

    // What happens after the backup is found out from the engine.
    let late = server.create("labels=made%3Dlate&idle_timeout=7m").await;
    assert_eq!(server.delete(&path(&gone)).await.status, 204);
    let refused = server.verb(&["restore", "store.backup", "--replace"], &[]).unwrap_err();
    assert!(refused.contains("in use") && refused.contains("stop"), "{refused}");
    server.end_with("TERM");

    let refused = server.verb(&["restore", "store.backup"], &[]).unwrap_err();
    assert!(refused.contains("--replace"), "{refused}");
    fs::remove_dir_all(server.folder().join("data")).unwrap();
    let other = server.verb(&["restore", "store.backup"], &[("SPINDOWN_INSTANCE", "other")]).unwrap_err();
    assert!(other.contains("spindown.instance"), "{other}");
    server.verb(&["restore", "store.backup"], &[]).unwrap();
    // Cut off, it is refused, and what is there stays.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(server.folder().join("cut"), &text[..text.len() - 10]).unwrap();
    let refused = server.verb(&["restore", "cut", "--replace"], &[]).unwrap_err();
    assert!(refused.contains("damaged"), "{refused}");
    // With nobody serving, a backup is made all the same; but not where there is no store.
    assert_eq!(records(&server.verb(&["backup", "-"], &[]).unwrap()), 4);
    let nothing = server.verb(&["backup", "-"], &[("SPINDOWN_DATA", "elsewhere")]).unwrap_err();
    assert!(nothing.contains("no store") && !server.folder().join("elsewhere").exists(), "{nothing}");

    let server = server.start_again(&[]);
    assert_eq!(all_facts(&server, &known).await, before);
    let missing = server.get(&path(&gone)).await.json;
    assert_eq!(missing["status"], "missing", "{missing:#}");
    let adopted = server.get(&path(&late)).await.json;
    assert_eq!((&adopted["labels"]["made"], &adopted["idle_timeout"]), (&"late".into(), &420.into()), "{adopted:#}");
    until_well(&server).await;

    // And the way from the file to Redis.
    let mut server = server;
    server.verb(&["backup", "moving"], &[]).unwrap();
    server.end_with("TERM");
    let redis = RedisServer::start();
    let url = redis.url();
    let on_redis = [("SPINDOWN_REDIS_URL", url.as_str())];
    server.verb(&["restore", "moving"], &on_redis).unwrap();
    let server = server.start_again(&on_redis);
    assert_eq!(all_facts(&server, &known).await, before);
    let refused = server.verb(&["restore", "moving", "--replace"], &[]).unwrap_err();
    assert!(refused.contains("at work"), "{refused}");
    assert_eq!(records(&server.verb(&["backup", "-"], &[]).unwrap()), 5);
    assert_eq!(server.patch(&path(&idle), "idle_timeout=8m").await.json["idle_timeout"], 480);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_set_aside_and_its_container_adopted() {
    let mut server = Server::start(&[]);
    let (damaged, whole) = (server.create("").await, server.create("").await);
    for container in [&damaged, &whole] {
        assert_eq!(server.patch(&path(container), "idle_timeout=9m").await.status, 200);
    }
    server.end_with("TERM");
    let id = damaged["id"].as_str().unwrap();
    {
        let database = Database::open(server.folder().join("data/spindown.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = TableDefinition::<&str, &[u8]>::new("containers");
        transaction.open_table(table).unwrap().insert(id, &b"{\"v\":1,\xff"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let (folder, block) = (server.folder().join("data"), std::sync::Arc::clone(&server.block));
    let refused = Server::try_start(block, &[("SPINDOWN_DATA", folder.to_str().unwrap())]).err().unwrap();
    assert!(refused.log.contains(id) && refused.log.contains("set-aside"), "{refused:?}");
    let told = server.verb(&["doctor"], &[]).unwrap_err();
    assert!(told.contains(id) && told.contains("set-aside"), "{told}");
    let refused = server.verb(&["backup", "x"], &[]).unwrap_err();
    assert!(refused.contains(id) && !server.folder().join("x").exists(), "{refused}");

    server.verb(&["set-aside", "aside"], &[]).unwrap();
    let kept: Value = serde_json::from_str(&fs::read_to_string(server.folder().join("aside")).unwrap()).unwrap();
    assert_eq!((&kept["key"], &kept["bytes"][7]), (&damaged["id"], &255.into()), "{kept}");
    let server = server.start_again(&[]);
    assert_eq!(server.get(&path(&damaged)).await.json["idle_timeout"], 9_000, "as it was made");
    assert_eq!(server.get(&path(&whole)).await.json["idle_timeout"], 540);
}
