//! What only a real engine shows: that a container is confined, and what its failures look like from here.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use spindown::{
    engine::{
        Engine, Happening,
        docker::{Deadlines, Docker},
    },
    model::{Blueprint, ContainerId, EngineId, EngineState, ImageReference, Kind, Limits, Port, Protocol},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Notify,
};

use super::{
    GRACE, PATIENCE, await_event, await_seen, fails, file, made,
    rig::{DockerRig, Rig, SOCKET, docker},
    started,
};

/// Runs a command inside as root and answers its output.
#[track_caller]
fn inside(id: &EngineId, script: &str) -> String {
    docker(&["exec", id.as_str(), "sh", "-c", script])
}

/// The same as the user that the image is for.
#[track_caller]
fn as_student(id: &EngineId, script: &str) -> String {
    docker(&["exec", "--user", "student", id.as_str(), "sh", "-c", script])
}

#[track_caller]
fn shown(id: &EngineId, format: &str) -> String {
    docker(&["inspect", "--format", format, id.as_str()])
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_in_place() {
    let rig = DockerRig::new().await;
    let limits = Limits { memory: 64 << 20, cpus: 0.25, pids: 77, log_size: 4096 };
    let id = rig.docker.create(&Blueprint { limits, ..rig.blueprint(0) }).await.unwrap();
    rig.docker.start(&id).await.unwrap();
    // Read from inside, wherever this kernel keeps them.
    let limit = |new: &str, old: &str| inside(&id, &format!("cd /sys/fs/cgroup; cat {new} 2>/dev/null || cat {old}"));
    assert_eq!(limit("memory.max", "memory/memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(limit("pids.max", "pids/pids.max"), "77");
    let cpus = limit("cpu.max", "cpu/cpu.cfs_quota_us");
    assert!(["25000", "25000 100000"].contains(&&*cpus), "{cpus}");
    // No swap on top: both together are as much as memory alone.
    assert_eq!(shown(&id, "{{.HostConfig.MemorySwap}}"), (64 << 20).to_string());
    assert_eq!(
        shown(&id, "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}}"),
        r#"json-file {"max-file":"2","max-size":"2048"}"#
    );
    // How soon the kernel asks after the other end of a connection.
    let alive = inside(&id, "cd /proc/sys/net/ipv4; cat tcp_keepalive_time tcp_keepalive_intvl tcp_keepalive_probes");
    assert_eq!(alive.split_whitespace().collect::<Vec<_>>(), ["60", "60", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_sockets_and_device_nodes_are_dropped_and_sudo_works() {
    let rig = DockerRig::new().await;
    let id = started(&rig, 0).await;
    let capabilities = u64::from_str_radix(&inside(&id, "sed -n 's/^CapBnd:\\s*//p' /proc/self/status"), 16).unwrap();
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let (net_admin, net_raw, sys_admin, mknod, audit_write) = (12, 13, 21, 27, 29);
    for dropped in [net_admin, net_raw, sys_admin, mknod] {
        assert!(!has(dropped), "{dropped} in {capabilities:x}");
    }
    assert!(has(audit_write));
    assert_eq!(inside(&id, "mknod /tmp/null c 1 3 2>/dev/null || echo refused"), "refused");
    assert_eq!(as_student(&id, "sudo -n id -u 2>&1"), "0");
    // The engine's own confinement is kept: seccomp filters, /proc/sys is read-only.
    assert_eq!(inside(&id, "sed -n 's/^Seccomp:\\s*//p' /proc/self/status"), "2");
    assert_eq!(inside(&id, "echo 1 2>/dev/null >/proc/sys/kernel/panic || echo refused"), "refused");
    assert_eq!(
        shown(
            &id,
            "{{.HostConfig.Privileged}} {{json .HostConfig.Binds}} {{json .Mounts}} {{.HostConfig.RestartPolicy.Name}}"
        ),
        "false null [] no"
    );
    // Ping needs no raw socket where every group may use the kernel's.
    assert_eq!(inside(&id, "cat /proc/sys/net/ipv4/ping_group_range"), "0\t2147483647");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_process_reaps_and_passes_signals_on() {
    let rig = DockerRig::new().await;
    let id = started(&rig, 0).await;
    assert!(["docker-init", "tini"].contains(&&*inside(&id, "cat /proc/1/comm")));
    let mut command = rig.plain(1);
    command.command = Some(["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"].map(str::to_owned).to_vec());
    let id = rig.docker.create(&command).await.unwrap();
    rig.docker.start(&id).await.unwrap();
    rig.docker.stop(&id, GRACE).await.unwrap();
    assert_eq!(rig.docker.inspect(&id).await.unwrap().exit_code, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_listen_is_ended_after_the_grace() {
    let rig = DockerRig::new().await;
    let mut deaf = rig.plain(0);
    deaf.command = Some(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"].map(str::to_owned).to_vec());
    let id = rig.docker.create(&deaf).await.unwrap();
    rig.docker.start(&id).await.unwrap();
    let before = tokio::time::Instant::now();
    rig.docker.stop(&id, Duration::from_millis(1500)).await.unwrap();
    // Rounded up to whole seconds.
    assert!(before.elapsed() >= Duration::from_millis(1900), "{:?}", before.elapsed());
    let seen = rig.docker.inspect(&id).await.unwrap();
    assert_eq!((seen.state, seen.exit_code), (EngineState::Exited, Some(137)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_what_is_made() {
    let rig = DockerRig::new().await;
    let udp = Port { container: 53, host: rig.block.ports().0 + 40, protocol: Protocol::Udp };
    let tcp = rig.blueprint(0).ports[0];
    let blueprint = Blueprint {
        name: Some(rig.name("bell")),
        env: BTreeMap::from([("COLOUR".to_owned(), "red=blue\n".to_owned())]),
        ports: vec![tcp, udp],
        ..rig.blueprint(0)
    };
    let id = rig.docker.create(&blueprint).await.unwrap();
    rig.docker.start(&id).await.unwrap();
    assert_eq!(inside(&id, "printf %s \"$COLOUR\" | tail -1"), "red=blue");
    assert_eq!(inside(&id, "hostname"), rig.name("bell").as_str());
    assert_eq!(shown(&id, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), blueprint.address.to_string());
    assert_eq!(rig.docker.inspect(&id).await.unwrap().ports, [tcp, udp]);
    let published = docker(&["port", id.as_str()]);
    for line in [format!("22/tcp -> 127.0.0.1:{}", tcp.host), format!("53/udp -> 127.0.0.1:{}", udp.host)] {
        assert!(published.contains(&line), "{published}");
    }
    let nameless = started(&rig, 1).await;
    assert_eq!(inside(&nameless, "hostname"), rig.blueprint(1).id.as_str()[..12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_the_image_go_with_the_container() {
    let rig = DockerRig::new().await;
    let image = rig.image("volume", "VOLUME /data");
    let id = rig.docker.create(&Blueprint { image, ..rig.blueprint(0) }).await.unwrap();
    rig.docker.start(&id).await.unwrap();
    let volume = shown(&id, "{{range .Mounts}}{{.Name}}{{end}}");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]), volume);
    rig.docker.remove(&id).await.unwrap();
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_is_told_in_our_words() {
    let rig = DockerRig::new().await;
    let docker = &rig.docker;
    let limits = |change: fn(&mut Limits)| {
        let mut limits = rig.blueprint(0).limits;
        change(&mut limits);
        Blueprint { limits, ..rig.blueprint(0) }
    };
    fails(docker.create(&limits(|l| l.cpus = 1000.0)).await, Kind::Invalid, "cpus");
    fails(docker.create(&limits(|l| l.memory = 1000)).await, Kind::Invalid, "memory");
    let bind = [203, 0, 113, 9].into();
    let id = docker.create(&Blueprint { bind, ..rig.blueprint(0) }).await.unwrap();
    fails(docker.start(&id).await, Kind::Unavailable, "203.0.113.9");
    let image = rig.image("user", "USER nonesuch");
    let id = docker.create(&Blueprint { image, ..rig.blueprint(1) }).await.unwrap();
    fails(docker.start(&id).await, Kind::Unsuitable, "user");
    let gateway = rig.network().gateway();
    let id = docker.create(&Blueprint { address: gateway, ..rig.blueprint(2) }).await.unwrap();
    fails(docker.start(&id).await, Kind::Conflict, "address");
    let network = format!("{}-none", rig.block.instance());
    let id = docker.create(&Blueprint { network, ..rig.blueprint(3) }).await.unwrap();
    fails(docker.start(&id).await, Kind::Unavailable, "network");
    let mut long = rig.network();
    long.name = format!("{}-long", long.name);
    long.bridge = "a-name-that-no-interface-has".to_owned();
    long.subnet = "10.98.201.0/24".parse().unwrap();
    fails(docker.ensure_network(&long).await, Kind::Invalid, "network.bridge");
    long.bridge = "lo".to_owned();
    fails(docker.ensure_network(&long).await, Kind::Conflict, "network.bridge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_behind_an_entry_point_is_found_out_now_or_soon() {
    let rig = DockerRig::new().await;
    let command = Some(vec!["nonesuch".to_owned()]);
    let id = rig.docker.create(&Blueprint { command, ..rig.blueprint(0) }).await.unwrap();
    if let Err(error) = rig.docker.start(&id).await {
        assert_eq!(error.kind(), Kind::Unsuitable, "{error:?}");
    }
    let seen = await_seen(&rig.docker, &id, |seen| !seen.state.is_up()).await;
    assert_eq!(seen.exit_code, Some(127));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_not_followed_out_of_a_directory() {
    let rig = DockerRig::new().await;
    let id = started(&rig, 0).await;
    inside(&id, "mkdir /opt/d && echo x >/opt/d/real && ln -s /etc/shadow /opt/d/link && mkfifo /opt/d/pipe");
    let got = rig.docker.get_files(&id, "/opt/d", 1000).await.unwrap();
    let paths: Vec<_> = got.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["d", "d/real"]);
    fails(rig.docker.get_files(&id, "/opt/d/link", 1000).await, Kind::NotFound, "/opt/d/link");
    // Endless ones end at the limit.
    inside(&id, "dd if=/dev/zero of=/opt/d/large bs=1M count=20 2>/dev/null");
    fails(rig.docker.get_files(&id, "/opt/d", 1000).await, Kind::Unsuitable, "/opt/d");
    rig.docker.put_files(&id, "/opt/d", &[file("real", 0o600, 1000, b"y")]).await.unwrap();
    assert_eq!(inside(&id, "stat -c '%a %u' /opt/d/real; cat /opt/d/real"), "600 1000\ny");
}

/// Every call, for engines that do not answer.
async fn nothing_answers(docker: &Docker) {
    let id = EngineId::parse(&"0".repeat(64)).unwrap();
    let rig = "10.97.0.0/24".parse().unwrap();
    let network = spindown::engine::NetworkSpec { name: "none".into(), bridge: "none".into(), subnet: rig };
    let name = spindown::model::Name::parse("none").unwrap();
    let outcomes = futures::join!(
        docker.ping(),
        async { docker.started_at().await.map(drop) },
        async { docker.images().await.map(drop) },
        async { docker.image("a").await.map(drop) },
        docker.ensure_network(&network),
        async { docker.list().await.map(drop) },
        async { docker.inspect(&id).await.map(drop) },
        docker.start(&id),
        docker.freeze(&id),
        docker.thaw(&id),
        docker.stop(&id, Duration::ZERO),
        docker.remove(&id),
        docker.rename(&id, &name),
        docker.put_files(&id, "/", &[]),
        async { docker.get_files(&id, "/x", 1).await.map(drop) },
        async { docker.events().await.map(drop) },
    );
    let (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p) = outcomes;
    for outcome in [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Unavailable, "the engine does not answer"), "{error:?}");
        assert!(error.retry_after().is_some());
    }
}

fn impatient() -> Deadlines {
    let short = Duration::from_millis(300);
    Deadlines {
        look: short,
        create: short,
        start: short,
        stop: short,
        remove: short,
        files: short,
        proof: short,
        change: short,
        pull: short,
        measure: short,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_unavailable_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let url = format!("unix://{}", path.display());
    let docker = Docker::connect(&url, "none").unwrap();
    let at_once = Duration::from_secs(2);
    tokio::time::timeout(at_once, nothing_answers(&docker)).await.unwrap();
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(&path).unwrap());
    tokio::time::timeout(at_once, nothing_answers(&docker)).await.unwrap();
    // Nobody listens on a port.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let docker = Docker::connect(&format!("tcp://{free}"), "none").unwrap();
    tokio::time::timeout(at_once, nothing_answers(&docker)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_unavailable_within_the_deadline() {
    // One that says nothing at all, and one that stops in the middle of its answer.
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(beginning.as_bytes()).await;
                    std::future::pending::<()>().await;
                    drop(stream);
                });
            }
        });
        let url = format!("unix://{}", path.display());
        let docker = Docker::connect(&url, "none").unwrap().with_deadlines(impatient());
        tokio::time::timeout(Duration::from_secs(3), nothing_answers(&docker)).await.unwrap();
        // More calls than there are places: those that wait for one give up in time as well.
        let many = futures::future::join_all((0..200).map(|_| docker.ping()));
        let outcomes = tokio::time::timeout(Duration::from_secs(3), many).await.unwrap();
        assert!(outcomes.iter().all(Result::is_err));
    }
}

/// What an engine shows of a container in this state.
fn inspection(id: &EngineId, state: &str) -> String {
    let labels = serde_json::json!({"spindown.managed": "none", "spindown.id": ContainerId::from_bits(1).as_str()});
    let state = serde_json::json!({"Status": state});
    let (id, created) = (id.as_str(), "2026-01-01T00:00:00Z");
    serde_json::json!({"Id": id, "Created": created, "State": state, "Config": {"Labels": labels}}).to_string()
}

/// An engine that gives each request this answer, and hangs up.
async fn fake(answer: impl Fn(&[u8]) -> String + Send + 'static) -> Docker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let _ = stream.write_all(answer(&request[..length]).as_bytes()).await;
        }
    });
    Docker::connect(&format!("tcp://{address}"), "none").unwrap()
}

/// Why a container is not frozen is told: that it is down, or what the engine failed at.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_freeze_is_not_taken_for_a_container_that_is_down() {
    for (state, expected) in [("running", Kind::Internal), ("exited", Kind::Conflict)] {
        let id = EngineId::parse(&"5a".repeat(32)).unwrap();
        let shown = inspection(&id, state);
        let docker = fake(move |request| {
            let (status, body) = if request.starts_with(b"POST") {
                ("500 Internal Server Error", r#"{"message":"cannot freeze: device or resource busy"}"#)
            } else {
                ("200 OK", &*shown)
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
        })
        .await;
        let error = docker.freeze(&id).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{state}: {error:?}");
        assert_eq!(error.message().contains("not running"), state == "exited", "{state}: {error:?}");
    }
}

/// An engine that closes the connection halfway is one that goes down.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_in_the_middle_is_unavailable() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{"] {
        let docker = fake(|_| beginning.to_owned()).await.with_deadlines(impatient());
        nothing_answers(&docker).await;
    }
}

/// Passes connections on to the engine, until it is told to cut them all. Subscriptions to events are held up for so
/// long.
async fn passage(subscriptions: Duration) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(Notify::new());
    let told = cut.clone();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    connections.spawn(async move {
                        let mut beginning = [0; 16];
                        stream.read_exact(&mut beginning).await.unwrap();
                        if beginning.starts_with(b"GET /events") {
                            tokio::time::sleep(subscriptions).await;
                        }
                        let mut engine = UnixStream::connect(SOCKET).await.unwrap();
                        engine.write_all(&beginning).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut engine).await;
                    });
                }
                () = told.notified() => connections.shutdown().await,
            }
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_stands_late_misses_nothing() {
    let rig = DockerRig::new().await;
    let (address, _cut) = passage(Duration::from_secs(1)).await;
    let far = Docker::connect(&format!("tcp://{address}"), &rig.block.instance()).unwrap();
    let id = made(&rig, 0).await;
    let mut events = far.events().await.unwrap();
    // Done and over before the engine hears of the subscription.
    rig.docker.start(&id).await.unwrap();
    rig.docker.remove(&id).await.unwrap();
    let seen = await_event(&mut events, &id, Happening::Removed).await;
    assert_eq!(seen, [Happening::Changed, Happening::Signalled, Happening::Ended, Happening::Removed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_ends_with_its_connection() {
    let rig = DockerRig::new().await;
    let (address, cut) = passage(Duration::ZERO).await;
    let far = Docker::connect(&format!("tcp://{address}"), &rig.block.instance()).unwrap();
    let mut events = far.events().await.unwrap();
    let id = made(&rig, 0).await;
    await_event(&mut events, &id, Happening::Changed).await;
    cut.notify_one();
    assert_eq!(tokio::time::timeout(PATIENCE, events.next()).await, Ok(None));
    // The engine itself is as it was.
    let mut events = far.events().await.unwrap();
    far.start(&id).await.unwrap();
    await_event(&mut events, &id, Happening::Changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn free_memory_is_told_of_this_machine_alone() {
    let rig = DockerRig::new().await;
    let free = rig.docker.free_memory().await.unwrap().unwrap();
    assert!((1 << 20..1 << 50).contains(&free), "{free}");
    // What is reached through a port may be anywhere.
    let (address, _cut) = passage(Duration::ZERO).await;
    let far = Docker::connect(&format!("tcp://{address}"), &rig.block.instance()).unwrap();
    assert_eq!(far.free_memory().await.unwrap(), None);
}

/// What the README of the project says about speed rests on these: run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, proves nothing"]
async fn medians() {
    let rig = DockerRig::new().await;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..15 {
        let mut lap = tokio::time::Instant::now();
        let mut note = |what| {
            times.entry(what).or_default().push(lap.elapsed());
            lap = tokio::time::Instant::now();
        };
        let id = made(&rig, 0).await;
        note("create");
        rig.docker.start(&id).await.unwrap();
        note("start");
        rig.docker.inspect(&id).await.unwrap();
        note("inspect");
        rig.docker.list().await.unwrap();
        note("list of one");
        rig.docker.put_files(&id, "/opt", &[file("x", 0o600, 0, b"x")]).await.unwrap();
        note("put a file");
        rig.docker.get_files(&id, "/opt/x", 100).await.unwrap();
        note("get a file");
        drop(rig.docker.events().await.unwrap());
        note("subscribe");
        rig.docker.stop(&id, GRACE).await.unwrap();
        note("stop");
        rig.docker.remove(&id).await.unwrap();
        note("remove");
    }
    for (what, mut times) in times {
        times.sort_unstable();
        println!("{what}: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_in_which_nothing_moves_is_given_up() {
    // A registry that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = DockerRig::new().await;
    let deadlines = Deadlines { pull: Duration::from_secs(1), ..Deadlines::default() };
    let docker = Docker::connect(&format!("unix://{SOCKET}"), &rig.block.instance()).unwrap().with_deadlines(deadlines);
    let image = ImageReference::parse(&format!("{}/tiny:1", silent.local_addr().unwrap())).unwrap();
    let outcome = tokio::time::timeout(PATIENCE, docker.pull(&image, None)).await.expect("it is given up").map(drop);
    fails(outcome, Kind::Unavailable, "nothing moved for 1 s");
}
