//! A Docker Engine of the test's own, which can be ended, killed and hung without harm to anybody else.
//!
//! It lives in namespaces of its own: its network, so that neither addresses nor rules meet those of the machine; its
//! mounts, with its data in memory and a `/run` where it finds no containerd but the one that it starts; its processes,
//! so that it and all of its containers are gone, mounts and interfaces included, once the first of them is. That is
//! when this is dropped, or when the test is killed. The namespaces are made here rather than with `ip netns exec`,
//! which hides the control groups.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use spindown::service::user::Credentials;
use tempfile::TempDir;

use super::{
    block::{Block, IMAGE},
    server::{run, send},
};

/// Within this time an engine comes up, or ends with all its containers.
const BOUND: Duration = Duration::from_secs(40);

/// What the first process of the namespaces prepares before it becomes one that reaps whatever is left to it.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && mkdir /run/data && ip link set lo up && echo ready &&
    exec docker-init -- sleep infinity";

/// Hands standard input on as the socket that the engine is to listen on, in the way of systemd.
const ACTIVATE: &str = r#"exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec dockerd --host fd:// "$@""#;
/// Has the engine make its socket itself.
const LISTEN: &str = r#"exec dockerd --host "unix://$0" "$@""#;

/// An engine, running or not.
pub struct OwnEngine {
    /// Its socket, if that is kept open whether it runs or not.
    door: Option<UnixListener>,
    unshare: Child,
    /// The first process, as this side of the namespaces counts.
    first: u32,
    daemon: Option<Daemon>,
    pub block: Arc<Block>,
    folder: TempDir,
}

/// `nsenter`, which waits for the daemon, and the daemon.
struct Daemon {
    parent: Child,
    pid: u32,
}

impl OwnEngine {
    /// An engine that runs and has the sandbox image.
    pub fn start() -> Self {
        Self::prepare().furnish()
    }

    /// The same, behind a socket that is kept open when the engine ends, as systemd does: who calls then waits until it
    /// is back.
    pub fn start_behind_open_socket() -> Self {
        let mut engine = Self::prepare();
        engine.door = Some(UnixListener::bind(engine.socket()).unwrap());
        engine.furnish()
    }

    fn furnish(mut self) -> Self {
        self.begin();
        self.bring(IMAGE);
        self
    }

    /// Gives it an image of the machine's engine.
    pub fn bring(&self, image: &str) {
        run("sh", &["-c", &format!("docker save {image} | docker -H {} load -q", self.url())]);
    }

    /// A place for an engine. None runs yet.
    fn prepare() -> Self {
        let (block, folder) = (Arc::new(Block::take()), tempfile::tempdir().unwrap());
        let mut unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "private", "--pid"])
            .args(["--fork", "--kill-child=KILL", "--mount-proc", "sh", "-c", PREPARE])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and unshare are installed");
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let first = child_of(unshare.id());
        let engine = Self { door: None, unshare, first, daemon: None, block, folder };
        engine.connect();
        engine
    }

    /// Lays a cable between the machine and the engine's host.
    fn connect(&self) {
        let (link, space) = (self.link(), self.first.to_string());
        // What a test that was killed left.
        let _ = Command::new("ip").args(["link", "del", &link]).stderr(Stdio::null()).status();
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space]);
        run("ip", &["addr", "add", &format!("{}/30", self.address(1)), "dev", &link]);
        run("ip", &["link", "set", &link, "up"]);
        self.inside(&["ip", "addr", "add", &format!("{}/30", self.host()), "dev", "eth0"]);
        self.inside(&["ip", "link", "set", "eth0", "up"]);
    }

    fn link(&self) -> String {
        format!("{}e", self.block.instance())
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.block.network().subnet.addr().octets()[2], last)
    }

    /// The address at which the engine's host is reached from here.
    pub fn host(&self) -> IpAddr {
        self.address(2).into()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The engine's address.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What a server needs to be told that runs beside this engine. It is called from another machine, so to speak, and
    /// so insists on a password that was set, which here is the one that all tests use.
    pub fn settings(&self) -> Vec<(String, String)> {
        let password = Credentials::with_password("admin", "spindocker").unwrap();
        [
            ("SPINDOWN_ENGINE", self.url()),
            ("ROCKET_ADDRESS", self.host().to_string()),
            ("SPINDOWN_AUTH_PASSWORD_HASH", password.hash().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// What brings a command into the engine's network, put before it.
    pub fn way_in(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.first), "--".to_owned()]
    }

    /// Runs a command in the engine's network that must succeed, and answers what it wrote.
    pub fn inside(&self, command: &[&str]) -> String {
        let way_in = self.way_in();
        let words: Vec<&str> = way_in.iter().map(String::as_str).chain(command.iter().copied()).collect();
        run(words[0], &words[1..])
    }

    /// Has the engine do what the command `docker` is told.
    pub fn docker(&self, arguments: &[&str]) -> String {
        run("docker", &[&["-H", &self.url()], arguments].concat())
    }

    /// The first process of a container, as the engine counts: what is inside can be reached by it without the engine.
    pub fn processes_of(&self, container: &str) -> u32 {
        self.docker(&["inspect", "--format", "{{.State.Pid}}", container]).parse().unwrap()
    }

    /// Has the container with this first process report a number of connections, whether the engine is there or not.
    pub fn report_from(&self, process: u32, connections: u32) {
        let meter = "/etc/spindown/meters.d/test";
        let script =
            format!("printf '#!/bin/sh\\necho {connections}\\n' >{meter}; chmod +x {meter}; spindown-check-in try");
        let (first, process) = (self.first.to_string(), process.to_string());
        let engine = ["--target", &first, "--mount", "--pid", "--", "nsenter", "--target", &process];
        let container = ["--mount", "--net", "--pid", "--root", "--wd=/", "--", "sh", "-ec", &script];
        let said = run("nsenter", &[&engine[..], &container[..]].concat());
        assert!(said.starts_with(&format!("active-connections={connections} to ")) && said.contains(" 204 "), "{said}");
    }

    /// Starts the engine and waits until it answers.
    pub fn begin(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        let log = fs::File::options().append(true).create(true).open(self.log_path()).unwrap();
        let (script, input) = match &self.door {
            Some(door) => (ACTIVATE, OwnedFd::from(door.try_clone().unwrap()).into()),
            None => (LISTEN, Stdio::null()),
        };
        let mut parent = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "nsenter",
                "--target",
                &self.first.to_string(),
                "--net",
                "--mount",
                "--pid",
                "--",
                "sh",
                "-c",
                script,
            ])
            .arg(self.socket())
            .args(["--data-root", "/run/data", "--exec-root", "/run/engine", "--pidfile", "/run/engine.pid"])
            .stdin(input)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + BOUND;
        while !self.answers() {
            assert!(parent.try_wait().unwrap().is_none(), "the engine ended: {}", self.log());
            assert!(Instant::now() < deadline, "the engine does not come up: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        let pid = child_of(parent.id());
        self.daemon = Some(Daemon { parent, pid });
    }

    /// Whether it takes calls.
    fn answers(&self) -> bool {
        // The command takes its time; no need to start it before anybody listens.
        UnixStream::connect(self.socket()).is_ok()
            && Command::new("timeout")
                .args(["5", "docker", "-H", &self.url(), "version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
    }

    /// Ends it as the machine's shutdown does, and its containers with it.
    pub fn end(&mut self) {
        self.end_with("TERM");
    }

    /// Kills it. Its containers go on until it is started again.
    pub fn kill(&mut self) {
        self.end_with("KILL");
    }

    fn end_with(&mut self, signal: &str) {
        let mut daemon = self.daemon.take().expect("it runs");
        send(signal, daemon.pid);
        let deadline = Instant::now() + BOUND;
        while daemon.parent.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the engine does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Hangs it: it takes connections and answers none.
    pub fn hang(&self) {
        let daemon = self.daemon.as_ref().expect("it runs");
        send("STOP", daemon.pid);
        // `nsenter` halts itself when its child is halted.
        for pid in [daemon.pid, daemon.parent.id()] {
            await_state(pid, |state| state == 'T');
        }
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        let daemon = self.daemon.as_ref().expect("it runs");
        // `nsenter` wakes its child when it is woken.
        send("CONT", daemon.parent.id());
        for pid in [daemon.parent.id(), daemon.pid] {
            await_state(pid, |state| state != 'T');
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the engine's log\n{}", self.log());
        }
        // The first process takes all the others with it.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.parent.kill();
            let _ = daemon.parent.wait();
        }
        let _ = Command::new("ip").args(["link", "del", &self.link()]).stderr(Stdio::null()).status();
    }
}

/// The only child of a process.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("process {pid} has not one child: {children:?}"))
}

fn await_state(pid: u32, done: impl Fn(char) -> bool) {
    let deadline = Instant::now() + BOUND;
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap();
        if done(state) {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} stays {state}");
        thread::sleep(Duration::from_millis(5));
    }
}
