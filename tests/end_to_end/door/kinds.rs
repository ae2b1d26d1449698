//! Every kind of client, from wherever it comes, and those who want nothing.

use std::process::{Command, Stdio};

use super::*;
use crate::support::{block::IMAGE, engine::OwnEngine, server::SshKey};

/// What scp moves, in MiB.
const MUCH: u32 = 500;

#[tokio::test]
async fn ssh_wakes_a_sleeping_container() {
    let server = Server::start(&[SWEEPS]);
    let key = SshKey::make();
    let made = server.create(&format!("idle_timeout=1s&authorized_keys={}", key.encoded())).await;
    let port = made["ssh_port"].as_str().unwrap();
    let asleep = put_to_sleep(&server, &made).await;
    assert_eq!(key.login(port, &["id", "-un"]).unwrap(), "student", "{}", server.log());
    let awake = server.get(&path(&made)).await.json;
    assert_eq!((&awake["status"], &awake["ssh_host_keys"]), (&"running".into(), &asleep["ssh_host_keys"]));

    // It is told who it was, and how long that took.
    let history = history(&server, &made).await;
    let words: Vec<_> = history.iter().rev().map(|h| h["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["created", "started", "stopping", "stopped", "started", "woken"]);
    assert_eq!((&history[2]["by"], &history[0]["client"]), (&"idle".into(), &"127.0.0.1".into()), "{history:#?}");
    assert!((1..20_000).contains(&history[0]["waited_ms"].as_u64().unwrap()), "{history:#?}");
    let metrics = server.get("/metrics").await.json.as_str().unwrap().to_owned();
    for line in ["spindown_door_connections_total{outcome=\"carried\"} 1", "spindown_wake_seconds_count 1"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(server.log().contains("container woken"));
    // The next one goes straight there.
    assert_eq!(key.login(port, &["true"]).unwrap(), "");
    let metrics = server.get("/metrics").await.json.as_str().unwrap().to_owned();
    assert!(metrics.contains("spindown_door_connections_total{outcome=\"carried\"} 1"), "{metrics}");
}

#[tokio::test]
async fn scp_moves_half_a_gigabyte_into_a_sleeping_container() {
    let server = Server::start(&[SWEEPS]);
    let key = SshKey::make();
    let made = server.create(&format!("idle_timeout=1s&authorized_keys={}", key.encoded())).await;
    let port = made["ssh_port"].as_str().unwrap();
    put_to_sleep(&server, &made).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("much");
    let file = file.to_str().unwrap();
    run("sh", &["-c", &format!("head -c {MUCH}M /dev/urandom >{file}")]);
    let output = key.scp(port, file, "student@127.0.0.1:much").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let sum = |text: String| text.split_whitespace().next().unwrap().to_owned();
    let there = sum(key.login(port, &["sha256sum much"]).unwrap());
    assert_eq!(there, sum(run("sha256sum", &[file])));
    // And back, while it is carried: it wakes again for that.
    put_back_to_sleep(&server, &made).await;
    let back = folder.path().join("back");
    let output = key.scp(port, "student@127.0.0.1:much", back.to_str().unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sum(run("sha256sum", &[back.to_str().unwrap()])), there);
}

#[tokio::test]
async fn psql_wakes_a_database() {
    let server = Server::start(&[SWEEPS]);
    let made = server.post("/v1/containers", "image=spindown%2Fpostgres&idle_timeout=1h&memory=512m").await.json;
    let port = published(&made, 5432).to_string();
    let mut password = String::new();
    until("it has a password", || {
        let told = Command::new("docker")
            .args(["exec", engine_id(&made), "cut", "-d", ":", "-f", "5", "/home/student/.pgpass"])
            .output()
            .unwrap();
        password = String::from_utf8(told.stdout).unwrap().trim().to_owned();
        !password.is_empty()
    })
    .await;
    let query = |sql: &str| {
        let output = Command::new("psql")
            .args(["-wAtqX", "-h", "127.0.0.1", "-p", &port, "-U", "student", "-c", sql])
            .env("PGPASSWORD", &password)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
    };
    until("the database answers", || query("SELECT 1").0).await;
    assert_eq!(query("CREATE TABLE kept AS SELECT 42 AS answer"), (true, String::new()));
    put_back_to_sleep(&server, &made).await;
    let begun = Instant::now();
    let answer = query("SELECT answer FROM kept");
    // It takes connections before it takes queries, and says so; then it is asked again, as anybody would.
    if answer != (true, "42".to_owned()) {
        assert!(answer.1.contains("starting up"), "{answer:?}");
        until("it has started up", || query("SELECT answer FROM kept") == (true, "42".to_owned())).await;
    }
    assert!(begun.elapsed() < SOON);
    assert_eq!(status(&server, &made).await, "running");
}

#[tokio::test]
async fn a_web_request_waits_for_an_application_that_takes_its_time() {
    let aviary = Aviary::of("", 2);
    let server = Server::try_start(Arc::new(Block::take()), &[SWEEPS]).unwrap();
    let made = server.post("/v1/containers", "image=spindown%2Fdjango&idle_timeout=1s").await.json;
    let slow = aviary.create("idle_timeout=4s").await;
    put_to_sleep(&server, &made).await;
    let url = format!("http://127.0.0.1:{}/", made["app_port"].as_str().unwrap());
    let page = reqwest::get(&url).await.unwrap();
    assert_eq!(page.status(), 200, "{}", server.log());
    assert!(!page.text().await.unwrap().is_empty());
    put_to_sleep(&aviary.server, &slow).await;
    let begun = Instant::now();
    assert_eq!(tell(None, at(&slow, REPEATS), b"slowly").await.unwrap().1, b"slowly");
    assert!(begun.elapsed() > Duration::from_secs(2));
    // Nobody has come to the other port yet. It is reached all the same.
    let mut stream = parrot::connect(None, at(&slow, ECHOES)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_mere_connection_wakes_a_server_that_speaks_first() {
    let aviary = Aviary::of("good day", 0);
    let asleep = aviary.asleep().await;
    let mut stream = parrot::connect(None, at(&asleep, ECHOES)).await.unwrap();
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"good day");
    stream.write_all(b"and to you").await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"and to you");
}

#[tokio::test]
async fn clients_come_from_everywhere() {
    let engine = OwnEngine::start();
    let brew = parrot::brew(&engine.block, "parrot", "", 0);
    engine.bring(&brew.0);
    // Published for both versions of IP.
    let server = Server::start_beside(&engine, &[SWEEPS, ("SPINDOWN_PORTS_BIND", "::")]);
    let made = server.post("/v1/containers", &format!("image={}&idle_timeout=1s", brew.0)).await.json;
    let port = published(&made, REPEATS);
    // The server and its engine are in a network namespace of their own, and this is another one.
    put_to_sleep(&server, &made).await;
    let said = noise(100_000);
    let answer = tell(None, (engine.host(), port).into(), &said).await.unwrap();
    assert_eq!(answer, (name(&made).to_owned(), said), "{}", server.log());
    for to in ["127.0.0.1", "::1", &engine.host().to_string()] {
        put_back_to_sleep(&server, &made).await;
        let hello = format!(
            "my $s = IO::Socket::IP->new(PeerHost => '{to}', PeerPort => {port}, Timeout => 30) or die $@; \
             print $s 'hello'; $s->flush; shutdown $s, 1; local $/; print <$s>"
        );
        assert_eq!(
            engine.inside(&["perl", "-MIO::Socket::IP", "-e", &hello]),
            format!("{}\nhello", name(&made)),
            "{to}"
        );
    }
    // Who it was is told.
    let woken = history(&server, &made).await.into_iter().filter(|h| h["event"] == "woken");
    let clients: Vec<_> = woken.map(|h| h["client"].as_str().unwrap().to_owned()).collect();
    assert_eq!(clients.len(), 4, "{clients:?}");
    assert_eq!((clients[1].as_str(), clients[2].as_str()), ("::1", "127.0.0.1"), "{clients:?}");
    drop(server);
}

#[tokio::test]
async fn fifty_clients_at_once_are_all_served() {
    let aviary = Aviary::of("", 1);
    let asleep = aviary.create("idle_timeout=3s").await;
    put_to_sleep(&aviary.server, &asleep).await;
    let before = aviary.server.descriptors();
    let told = join_all((0..50).map(|_| async {
        let said = noise(rand::rng().random_range(1..200_000));
        (tell(None, at(&asleep, REPEATS), &said).await, said)
    }));
    for (answer, said) in told.await {
        assert!(answer.unwrap() == (name(&asleep).to_owned(), said));
    }
    let words = history(&aviary.server, &asleep).await;
    assert_eq!(words.iter().filter(|h| h["event"] == "woken").count(), 1, "{words:#?}");
    until("nothing is held any more", || aviary.server.descriptors() <= before).await;
}

#[tokio::test]
async fn whoever_says_nothing_wakes_nothing() {
    let aviary = Aviary::open();
    let server = Server::try_start(Arc::new(Block::take()), &[SWEEPS]).unwrap();
    let made = join_all((0..6).map(|n| {
        let body = format!("idle_timeout=1s&image={}", if n < 3 { IMAGE } else { &aviary.brew.0 });
        let server = &server;
        async move { server.post("/v1/containers", &body.replace('/', "%2F")).await.json }
    }))
    .await;
    let asleep = join_all(made.iter().map(|made| put_to_sleep(&server, made))).await;
    let ports: Vec<u16> = asleep
        .iter()
        .flat_map(|c| c["ports"].as_array().unwrap())
        .map(|p| p["host_port"].as_u64().unwrap().try_into().unwrap())
        .collect();
    let (first, last) = server.block.ports();
    // A scan of all ports, thrice: of those that look, those that close at once, and those that wait for a word.
    let mut waiting = Vec::new();
    for round in 0..3 {
        for port in first..=last {
            let connected = Stream::connect((HERE, port)).await;
            assert_eq!(connected.is_ok(), ports.contains(&port), "{port}");
            if round == 0 { waiting.extend(connected.ok()) } else { drop(connected) }
        }
    }
    assert_eq!(waiting.len(), ports.len());
    for mut stream in waiting {
        // They are sent away, and not as if they had been answered.
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let metrics = server.get("/metrics").await.json.as_str().unwrap().to_owned();
    let silent = format!("spindown_door_connections_total{{outcome=\"silent\"}} {}", 3 * ports.len());
    assert!(metrics.contains(&silent), "{silent}\n{metrics}");
    for container in &asleep {
        let now = server.get(&path(container)).await.json;
        assert_eq!((&now["status"], &now["last_active_at"]), (&"stopped".into(), &container["last_active_at"]));
        assert!(!history(&server, container).await.iter().any(|h| h["event"] == "woken"));
    }
    // One who means it is let in meanwhile.
    assert!(tell(None, at(&asleep[5], REPEATS), b"hello").await.is_ok());
}

#[tokio::test]
async fn whoever_wakes_to_no_avail_has_to_wait() {
    let aviary = Aviary::open();
    let guesser = stranger();
    let (asleep, other) = tokio::join!(aviary.asleep(), aviary.asleep());
    for _ in 0..3 {
        tell(Some(guesser), at(&asleep, REPEATS), b"root").await.unwrap();
        put_back_to_sleep(&aviary.server, &asleep).await;
    }
    let refused = tell(Some(guesser), at(&asleep, REPEATS), b"root").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{}", aviary.server.log());
    assert_eq!(status(&aviary.server, &asleep).await, "stopped");
    let told = &history(&aviary.server, &asleep).await[0];
    assert_eq!((&told["event"], &told["client"]), (&"wake_refused".into(), &guesser.to_string().into()), "{told:#}");
    // Nobody else has to, nor has it with another one.
    tell(Some(stranger()), at(&asleep, REPEATS), b"hello").await.unwrap();
    tell(Some(guesser), at(&other, REPEATS), b"hello").await.unwrap();
}
