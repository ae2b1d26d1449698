//! Spindown itself is ended, killed, halted and robbed of its store.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use super::*;
use crate::support::{
    block::{Block, IMAGE},
    brew::Brew,
    server::SshKey,
};

/// What must be the same before and after.
fn facts(container: &Value) -> Value {
    let names = ["id", "container_id", "name", "image", "owner", "labels", "ports", "idle_timeout", "created_at"];
    names.iter().map(|name| container[*name].clone()).collect()
}

#[tokio::test]
async fn an_orderly_end_finishes_stops_and_keeps_touches_and_containers() {
    // Nothing is written on a timer here: what is kept was written at the end.
    let mut server = Server::start(&[("SPINDOWN_STORE_FLUSH", "10m"), ("SPINDOWN_IDLE_STOP_GRACE", "3s")]);
    let kept = server.create("").await;
    let stubborn = server.create(STUBBORN).await;
    report(&kept, 1);
    let before = server.get(&path(&kept)).await.json;
    assert_eq!(before["active"], "1");

    let told = server.patch(&path(&stubborn), "status=stopped").await;
    assert_eq!((told.status, &told.json["status"]), (200, &"stopping".into()));
    // Somebody who holds a connection open and asks for nothing does not keep it from ending.
    let _idler = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let begun = Instant::now();
    let ended = server.end_with("TERM");
    assert_eq!(ended.code(), Some(0), "{}", server.log());
    // The stop under way was waited for, and that is all.
    assert!(!runs(&stubborn) && begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(runs(&kept));

    let server = server.start_again(&[]);
    let after = server.get(&path(&kept)).await.json;
    assert_eq!((&after["status"], &after["last_active_at"]), (&"running".into(), &before["last_active_at"]));
    assert_eq!(after["active"], "1", "{after:#}");
    let stopped = server.get(&path(&stubborn)).await.json;
    assert_eq!((&stopped["status"], &stopped["stopped_by"]), (&"stopped".into(), &"user".into()), "{stopped:#}");
}

#[tokio::test]
async fn an_end_does_not_wait_for_what_may_never_come() {
    let mut server = Server::start(&[]);
    let mute = Brew::build(&server.block, "mute", "FROM spindown/ssh\nENTRYPOINT [\"sleep\", \"600\"]\n");
    let made = server.post("/v1/containers", &format!("image={}", mute.0)).await;
    assert_eq!((made.status, made.json["ssh_host_keys"].as_array().unwrap().len()), (201, 0), "{:#}", made.json);
    let begun = Instant::now();
    assert_eq!(server.end_with("TERM").code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(runs(&made.json));
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_to_a_kill() {
    let mut server = Server::start(&[("SPINDOWN_IDLE_STOP_GRACE", "3s")]);
    let key = SshKey::make();
    let wanted = format!("labels=class%3Dlogic&idle_timeout=77m&authorized_keys={}", key.encoded());
    let made = server.create(&wanted).await;
    server.end_with("KILL");
    let server = server.start_again(&[]);
    let after = server.get(&path(&made)).await.json;
    assert_eq!((facts(&after), &after["status"]), (facts(&made), &"running".into()));
    until_greeted(HERE, port(&made)).await;
    assert_eq!(key.login(made["ssh_port"].as_str().unwrap(), &["whoami"]).unwrap(), "student");

    let changed = server.patch(&path(&made), "idle_timeout=never&labels=class%3Dalgebra").await.json;
    let stubborn = server.create(STUBBORN).await;
    assert_eq!(server.patch(&path(&stubborn), "status=stopped").await.json["status"], "stopping");
    let mut server = server;
    server.end_with("KILL");
    let server = server.start_again(&[]);
    assert_eq!(facts(&server.get(&path(&made)).await.json), facts(&changed));
    let stopped = server.wait_for_status(stubborn["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "user", "{stopped:#}");
    assert!(!runs(&stubborn));
    assert_eq!(server.get(&path(&made)).await.json["status"], "running");
}

#[tokio::test]
async fn containers_are_adopted_when_the_store_is_gone() {
    let block = Arc::new(Block::take());
    // Three ports, so that it shows whether one is handed out twice.
    let (first, last) = (block.ports().0.to_string(), (block.ports().0 + 2).to_string());
    let settings = [("SPINDOWN_PORTS_FIRST", first.as_str()), ("SPINDOWN_PORTS_LAST", &last)];
    let mut server = Server::try_start(block, &settings).unwrap();
    let running = server.create("labels=class%3Dlogic&idle_timeout=77m").await;
    let stopped = server.create("idle_timeout=never").await;
    server.patch(&path(&stopped), "status=stopped").await;
    server.wait_for_status(stopped["id"].as_str().unwrap(), "stopped").await;
    assert!(server.end_with("TERM").success());
    fs::remove_dir_all(server.folder().join("data")).unwrap();

    let server = server.start_again(&[]);
    let all = server.get("/v1/containers").await.json;
    assert_eq!(all.as_array().unwrap().len(), 2, "{all:#}");
    for (before, status) in [(&running, "running"), (&stopped, "stopped")] {
        let after = server.get(&path(before)).await.json;
        assert_eq!((facts(&after), after["status"].as_str()), (facts(before), Some(status)));
    }
    let third = server.create("").await;
    assert!(![port(&running), port(&stopped)].contains(&port(&third)));
    let full = server.post("/v1/containers", &format!("image={IMAGE}")).await;
    assert!(full.json["message"].as_str().unwrap().contains("no port is left"), "{:#}", full.json);
    let again = server.patch(&path(&stopped), "status=running").await;
    assert_eq!((again.status, &again.json["ports"]), (200, &stopped["ports"]), "{:#}", again.json);
}

#[tokio::test]
async fn after_a_restart_or_a_halt_everybody_gets_fresh_grace() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    let mut server = Server::start(&[("SPINDOWN_IDLE_SWEEP", "1s")]);
    let made = server.create(&format!("idle_timeout={}", TIMEOUT.as_secs())).await;
    assert!(server.end_with("TERM").success());
    // It was down for longer than the timeout: who knows what came in meanwhile?
    holds(TIMEOUT + Duration::from_secs(1), async || assert!(runs(&made))).await;
    let server = server.start_again(&[]);
    let stays = async || {
        let now = server.get(&path(&made)).await.json;
        assert_eq!(now["status"], "running", "{now:#}\n{}", server.log());
    };
    holds(TIMEOUT - Duration::from_secs(2), stays).await;

    // Halted for longer than that, from before the grace is over.
    server.signal("STOP");
    holds(TIMEOUT + Duration::from_secs(1), async || assert!(runs(&made))).await;
    server.signal("CONT");
    holds(TIMEOUT - Duration::from_secs(2), stays).await;
    let why = server.get(&format!("{}/activity", path(&made))).await.json;
    assert!(why["reason"].as_str().unwrap().starts_with("Watching began anew"), "{why:#}");
    // Nobody came all the same.
    let stopped = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(stopped["stopped_by"], "idle");
}

#[tokio::test]
async fn what_keeps_it_from_serving_is_told_clearly() {
    let block = || Arc::new(Block::take());
    let server = Server::start(&[]);

    // Another server over the same store.
    let data = server.folder().join("data").display().to_string();
    let refused = Server::try_start(block(), &[("SPINDOWN_DATA", &data)]).err().unwrap();
    let last = |log: &str| log.lines().last().unwrap_or_default().to_owned();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(last(&refused.log).contains("is in use by another") && refused.log.contains(&data), "{refused:?}");

    // Somebody else on the API's port, or on that for check-ins.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (setting, words) in [("ROCKET_PORT", "cannot listen on 127.0.0.1"), ("SPINDOWN_CHECK_IN_PORT", "check-ins on")]
    {
        let refused = Server::try_start(block(), &[(setting, &taken)]).err().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = last(&refused.log);
        assert!(said.contains(words) && said.contains(&taken), "{setting}: {refused:?}");
        assert!(said.contains("in use"), "{setting}: {refused:?}");
    }
    // The first one is none the worse for it.
    until_well(&server).await;
}
