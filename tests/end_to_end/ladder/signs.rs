//! What counts as use: keys, work and moving data. That a connection is open does not.

use std::fs;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream as Stream,
};

use super::*;
use crate::support::{
    block::IMAGE,
    brew::Brew,
    parrot::{self, ECHOES},
};

/// Has a container report a connection every two seconds, whatever goes on in it.
fn report_for_ever(container: &Value) {
    let script = "while :; do spindown-check-in; sleep 2; done";
    run("docker", &["exec", "-d", engine_id(container), "sh", "-c", script]);
}

/// A sign that was seen of a container.
fn sign<'a>(activity: &'a Value, sign: &str) -> &'a Value {
    let evidence = activity["evidence"].as_array().unwrap();
    evidence.iter().find(|seen| seen["sign"] == sign).unwrap_or_else(|| panic!("no {sign}: {activity:#}"))
}

/// Starts something in a container that goes on when its session is over.
fn leave_behind(house: &House, container: &Value, command: &str) {
    let script = format!("setsid nohup sh -c '{command}' >/dev/null 2>&1 </dev/null & exit");
    house.login(container, ADA, &[&script]).unwrap();
}

#[tokio::test]
async fn a_session_that_nobody_types_in_sleeps_though_it_is_reported_for_ever() {
    let house = House::open();
    let (calm, plain) =
        tokio::join!(house.create("freeze_after=5s&idle_timeout=12s"), house.create("idle_timeout=10s"));
    let sessions = join_all([&calm, &plain].map(|container| house.sit_down(container, ADA))).await;
    for container in [&calm, &plain] {
        report_for_ever(container);
    }
    let begun = Instant::now();
    for container in [&calm, &plain] {
        let path = path(container);
        house.server.wait_for(&path, "reported", |a| a.json["active"] == "1").await;
        // Until it has been looked into for the first time what it reports is all that there is.
        let path = format!("{path}/activity");
        let outranked = |a: &Answer| sign(&a.json, "connections")["activity"] == false;
        house.server.wait_for(&path, "looked into", outranked).await;
    }
    house.becomes(&calm, "frozen").await;
    let frozen = begun.elapsed();
    for container in [&calm, &plain] {
        let asleep = house.becomes(container, "stopped").await;
        assert_eq!(asleep["stopped_by"], "idle", "{asleep:#}");
    }
    println!("frozen after {frozen:?}, both stopped after {:?}", begun.elapsed());
    let history = house.history(&calm).await;
    assert_eq!(words(&history)[2..], ["frozen", "stopping", "stopped"], "{history:#?}");
    // To stop it the engine lets it go on, which has met nobody.
    let metrics = house.server.get("/metrics").await.json.as_str().unwrap().to_owned();
    assert!(metrics.contains("spindown_false_sleeps_total 0"), "{metrics}");
    // It was not the sessions that ended.
    drop(sessions);
}

/// An SSH server may ask its clients whether they are there, and they answer: data that moves, and shows that a machine is
/// on. The sandbox's must not.
#[tokio::test]
async fn the_sandbox_keeps_no_session_alive_that_nobody_types_in() {
    // The same in less time, if it does.
    let settings =
        include_str!("../../../images/ssh/sshd.conf").replace("ClientAliveInterval 60", "ClientAliveInterval 2");
    let house = House::open();
    let lines = format!("FROM {IMAGE}\nCOPY sshd.conf /etc/ssh/sshd_config.d/spindown.conf\n");
    let brew = Brew::build_with(&house.server.block, "quiet", &lines, &[("sshd.conf", &settings)]);
    let form = format!("image={}&idle_timeout=10s&authorized_keys={}", brew.0, house.key.encoded());
    let made = house.server.post("/v1/containers", &form).await.json;
    until_greeted(HERE, port(&made)).await;
    let session = house.sit_down(&made, ADA).await;
    let begun = Instant::now();
    let asleep = house.becomes(&made, "stopped").await;
    assert_eq!(asleep["stopped_by"], "idle", "{asleep:#}");
    println!("stopped after {:?}", begun.elapsed());
    drop(session);
}

#[tokio::test]
async fn a_key_now_and_then_keeps_it() {
    let house = House::open();
    let (calm, plain) = tokio::join!(house.create("freeze_after=6s&idle_timeout=8s"), house.create("idle_timeout=6s"));
    let runs = [&calm, &plain].map(run_of);
    let mut sessions = join_all([&calm, &plain].map(|container| house.sit_down(container, ADA))).await;
    let mut next = Instant::now();
    holds(Duration::from_secs(20), async || {
        if next <= Instant::now() {
            next += Duration::from_secs(3);
            for session in &mut sessions {
                session.types("k");
                session.hears("k").await;
            }
        }
        for container in [&calm, &plain] {
            assert_eq!(house.status(container).await, "running", "{}", house.server.log());
        }
    })
    .await;
    assert_eq!([&calm, &plain].map(run_of), runs);
    let history = house.history(&calm).await;
    assert_eq!(history.len(), 2, "{history:#?}");
}

#[tokio::test]
async fn work_goes_on_with_nobody_there_and_waiting_is_no_work() {
    let house = House::open();
    let (builds, spins, waits) = tokio::join!(
        house.create("idle_timeout=9s&cpus=0.5"),
        house.create("idle_timeout=9s&freeze_after=7s&cpus=0.5"),
        house.create("idle_timeout=9s")
    );
    // Many processes that live for a moment, as of a compiler; and one.
    leave_behind(&house, &builds, "while :; do head -c 100000 /dev/urandom | gzip | sha256sum; done");
    leave_behind(&house, &spins, "while :; do :; done");
    leave_behind(&house, &waits, "sleep 1000");
    let asleep = house.becomes(&waits, "stopped").await;
    assert_eq!(asleep["stopped_by"], "idle", "{asleep:#}");
    holds(Duration::from_secs(12), async || {
        for container in [&builds, &spins] {
            assert_eq!(house.status(container).await, "running", "{}", house.server.log());
        }
    })
    .await;
    for container in [&builds, &spins] {
        let activity = house.activity(container).await;
        assert_eq!(sign(&activity, "processor")["activity"], true, "{activity:#}");
        assert_eq!(words(&house.history(container).await).len(), 2, "{activity:#}");
    }
    // When it is done, it sleeps as well.
    run("docker", &["exec", engine_id(&spins), "pkill", "-KILL", "-u", "student"]);
    house.becomes(&spins, "stopped").await;
}

/// Such a connection counts once it has lasted for half a minute: until then it might be anybody's knock, which keeps it
/// from being frozen or stopped, and no more.
#[tokio::test]
async fn a_steady_beat_keeps_it() {
    let block = Arc::new(Block::take());
    let brew = parrot::brew(&block, "parrot", "", 0);
    let server = Server::try_start(block, &EYES).unwrap();
    let create = async |more: &str| {
        let made = server.post("/v1/containers", &format!("image={}&{more}", brew.0)).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        made.json
    };
    let (calm, plain) = tokio::join!(create("freeze_after=5s&idle_timeout=9s"), create("idle_timeout=9s"));
    let runs = [&calm, &plain].map(run_of);
    let at = |container: &Value| {
        let ports = container["ports"].as_array().unwrap().iter();
        let port = ports.filter(|port| port["container_port"] == ECHOES).find_map(|port| port["host_port"].as_u64());
        SocketAddr::new(HERE, port.unwrap().try_into().unwrap())
    };
    let mut streams: Vec<Stream> = Vec::new();
    for container in [&calm, &plain] {
        // Until it listens, whoever connects is closed on.
        let deadline = Instant::now() + SOON;
        streams.push(loop {
            let mut stream = parrot::connect(None, at(container)).await.unwrap();
            if stream.write_u8(0).await.is_ok() && stream.read_u8().await.is_ok() {
                break stream;
            }
            assert!(Instant::now() < deadline, "it does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
    }
    for beat in 0_u8..36 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for stream in &mut streams {
            stream.write_u8(beat).await.unwrap();
            let echo = tokio::time::timeout(SOON, stream.read_u8()).await.expect("it is answered");
            assert_eq!(echo.unwrap(), beat);
        }
    }
    for container in [&calm, &plain] {
        let activity = server.get(&format!("{}/activity", path(container))).await.json;
        assert_eq!(sign(&activity, "traffic")["activity"], true, "{activity:#}");
        server.wait_for_status(container["id"].as_str().unwrap(), "running").await;
    }
    assert_eq!([&calm, &plain].map(run_of), runs);
}

#[tokio::test]
async fn a_copy_that_takes_longer_than_the_timeout_is_not_cut_off() {
    let house = House::open();
    let (carried, direct) =
        tokio::join!(house.create("idle_timeout=5s"), house.create("freeze_after=3s&idle_timeout=5s"));
    house.becomes(&carried, "stopped").await;
    house.becomes(&direct, "stopped").await;
    // This one is up already when the copy begins, so that it goes straight there.
    house.server.patch(&path(&direct), "status=running").await;
    house.login(&direct, 1, &["true"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, noise(16 << 20)).unwrap();
    let sum = run("sha256sum", &[file.to_str().unwrap()]).split_whitespace().next().unwrap().to_owned();
    let begun = Instant::now();
    // A megabyte a second.
    let mut copies = [&carried, &direct].map(|container| {
        let from = format!("BindAddress={}", house.street.person(ADA));
        let copy = house.key.scp(
            &port(container).to_string(),
            file.to_str().unwrap(),
            &format!("student@{}:file", house.street.house()),
        );
        let mut there = Command::new(copy.get_program());
        there.args(["-l", "8192", "-o", &from]).args(copy.get_args());
        house.street.command(&there).stderr(Stdio::piped()).spawn().unwrap()
    });
    let until = Duration::from_secs(45);
    let mut before: Option<[String; 2]> = None;
    while copies.iter_mut().any(|copy| copy.try_wait().unwrap().is_none()) {
        assert!(begun.elapsed() < until, "it takes too long");
        let statuses = [house.status(&carried).await, house.status(&direct).await];
        if begun.elapsed() > Duration::from_secs(5) {
            assert_eq!(statuses, ["running", "running"], "{}", house.server.log());
            let runs = [&carried, &direct].map(run_of);
            assert_eq!(before.get_or_insert_with(|| runs.clone()), &runs);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(12), "{:?}", begun.elapsed());
    for (copy, container) in copies.iter_mut().zip([&carried, &direct]) {
        assert!(copy.wait().unwrap().success());
        let there = house.login(container, ADA, &["sha256sum file"]).unwrap();
        assert_eq!(there.split_whitespace().next(), Some(sum.as_str()));
        house.becomes(container, "stopped").await;
    }
}
