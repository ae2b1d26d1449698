//! A real server: the binary, in a block of its own, over the real engine.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;

use super::{block::Block, document::document, engine::OwnEngine};

/// Within this time everything happens that a test waits for.
pub const SOON: Duration = Duration::from_secs(20);

/// What a server that does not start, or has ended, left.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

/// One server process. It is killed, and its block cleared, when this is dropped.
pub struct Server {
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    pub url: String,
    pub block: Arc<Block>,
    folder: Arc<TempDir>,
    settings: Vec<(String, String)>,
    /// What brings the process to where it is to run.
    way_in: Vec<String>,
    http: Client,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Server {
    /// Starts a server with these settings beside those of its block (`SPINDOWN_IDLE_TIMEOUT`, `ROCKET_PORT` …).
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::try_start(Arc::new(Block::take()), settings).expect("the server starts")
    }

    /// Starts a server in this block.
    pub fn try_start(block: Arc<Block>, settings: &[(&str, &str)]) -> Result<Self, Ended> {
        Self::new(block, owned(settings), Vec::new()).launch()
    }

    /// Starts a server beside an engine of the test's own.
    pub fn start_beside(engine: &OwnEngine, settings: &[(&str, &str)]) -> Self {
        let settings = [engine.settings(), owned(settings)].concat();
        Self::new(Arc::clone(&engine.block), settings, engine.way_in()).launch().expect("the server starts")
    }

    /// Starts a server that this command brings to where it is to run, `prlimit` with its arguments for one.
    pub fn start_within(way_in: &[&str], settings: &[(&str, &str)]) -> Self {
        let way_in = way_in.iter().map(|word| (*word).to_owned()).collect();
        Self::new(Arc::new(Block::take()), owned(settings), way_in).launch().expect("the server starts")
    }

    fn new(block: Arc<Block>, settings: Vec<(String, String)>, way_in: Vec<String>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (log, url, http) = (Arc::default(), String::new(), Client::new());
        Self { child: None, log, url, block, folder, settings, way_in, http }
    }

    fn launch(mut self) -> Result<Self, Ended> {
        // Should the test be killed, the server dies with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(&self.way_in)
            .args([env!("CARGO_BIN_EXE_spindown"), "serve"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        self.equip(&mut command);
        let mut child = command.spawn().unwrap();
        let (told, tells) = mpsc::channel();
        let (errors, log) = (child.stderr.take().unwrap(), Arc::clone(&self.log));
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if entry["fields"]["message"] == "serving" {
                    let _ = told.send(entry["fields"]["address"].as_str().unwrap().to_owned());
                }
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        self.child = Some(child);
        match tells.recv_timeout(Duration::from_secs(60)) {
            Ok(address) => {
                self.url = format!("http://{address}");
                Ok(self)
            }
            Err(_) => {
                let status = self.end_with("KILL");
                Err(Ended { status, log: self.log() })
            }
        }
    }

    /// Gives a command the server's folder and settings.
    fn equip(&self, command: &mut Command) {
        let (first, last) = self.block.ports();
        let network = self.block.network();
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ROCKET_") || n.starts_with("SPINDOWN_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.folder.path())
            .env("ROCKET_PORT", "0")
            .env("SPINDOWN_INSTANCE", self.block.instance())
            .env("SPINDOWN_NETWORK_BRIDGE", network.bridge)
            .env("SPINDOWN_NETWORK_SUBNET", network.subnet.to_string())
            .env("SPINDOWN_DOOR_PORT", self.block.door().to_string())
            .env("SPINDOWN_PORTS_FIRST", first.to_string())
            .env("SPINDOWN_PORTS_LAST", last.to_string())
            .envs(self.settings.iter().map(|(k, v)| (k, v)));
    }

    /// The binary with another verb, where the server runs, with its settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_spindown")]).args(arguments).stdin(Stdio::null());
        self.equip(&mut command);
        command
    }

    /// Runs another verb of the binary where the server runs, with its settings and these on top. Whether it succeeded, and
    /// what it wrote: to its output if so, and to its errors otherwise.
    pub fn verb(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Result<String, String> {
        let output = self.command(arguments).envs(settings.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    /// Starts the server again, in the same block and over the same store, with these settings on top.
    pub fn start_again(mut self, settings: &[(&str, &str)]) -> Self {
        if self.child.is_some() {
            self.end_with("TERM");
        }
        self.settings.extend(owned(settings));
        let again = Self {
            child: None,
            log: Arc::default(),
            url: String::new(),
            block: Arc::clone(&self.block),
            folder: Arc::clone(&self.folder),
            settings: std::mem::take(&mut self.settings),
            way_in: self.way_in.clone(),
            http: self.http.clone(),
        };
        again.launch().expect("the server starts again")
    }

    /// Ends it with a signal, if it is still there, and answers how it ended.
    pub fn end_with(&mut self, signal: &str) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        if child.try_wait().unwrap().is_none() {
            self.signal_child(&child, signal);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the server did not end at SIG{signal}: {}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has ended by itself.
    pub fn await_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the server did not end");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal that does not end it.
    pub fn signal(&self, signal: &str) {
        self.signal_child(self.child.as_ref().expect("it runs"), signal);
    }

    fn signal_child(&self, child: &Child, signal: &str) {
        send(signal, child.id());
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// How much of the machine's memory it has, in bytes.
    pub fn memory(&self) -> u64 {
        self.of_its_process("VmRSS") << 10
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        self.of_its_process("Threads")
    }

    /// A figure of the kernel's, of sizes in KiB.
    fn of_its_process(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The folder that it runs in, with its store below `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A request with the documented credentials. The body's type is told from its first letter: `{` or `[` is JSON, all
    /// else a form.
    pub async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        self.send(self.request(method, path, body).basic_auth("admin", Some("spindocker"))).await
    }

    /// A request without credentials, to be added to.
    pub fn request(&self, method: Method, path: &str, body: &str) -> reqwest::RequestBuilder {
        let kind = if body.starts_with(['{', '[']) { "application/json" } else { "application/x-www-form-urlencoded" };
        let request = self.http.request(method, format!("{}{path}", self.url)).timeout(Duration::from_secs(60));
        if body.is_empty() { request } else { request.header("Content-Type", kind).body(body.to_owned()) }
    }

    /// Sends it. Whatever is answered must be as documented.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // A stream has no end to wait for.
        let endless = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if endless { String::new() } else { response.text().await.unwrap() };
        let told = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let seen = headers.iter().map(|(name, value)| (name.as_str().to_owned(), told(value))).collect();
        let checked = document().check(method.as_str(), &path, status, &seen, text.as_bytes());
        checked.unwrap_or_else(|why| panic!("{why}"));
        let json =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
        Answer { status, headers, json }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, body).await
    }

    pub async fn patch(&self, path: &str, body: &str) -> Answer {
        self.call(Method::PATCH, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }

    /// Makes a container of the sandbox image and answers what the API does.
    pub async fn create(&self, more: &str) -> Value {
        let answer = self.post("/v1/containers", &format!("image={}&{more}", super::block::IMAGE)).await;
        assert_eq!(answer.status, 201, "{:#}", answer.json);
        answer.json
    }

    /// Asks for `path` until `done`, and answers what it was then.
    pub async fn wait_for(&self, path: &str, what: &str, mut done: impl FnMut(&Answer) -> bool) -> Answer {
        self.wait_within(SOON, path, what, &mut done).await
    }

    /// The same, within this time.
    pub async fn wait_within(
        &self,
        bound: Duration,
        path: &str,
        what: &str,
        mut done: impl FnMut(&Answer) -> bool,
    ) -> Answer {
        let deadline = Instant::now() + bound;
        loop {
            let answer = self.get(path).await;
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} did not become {what}: {:#}\n{}", answer.json, self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until the container has this status.
    pub async fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait_for(&format!("/v1/containers/{id}"), status, |a| a.json["status"] == status).await.json
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Runs a command that must succeed, and answers what it wrote.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Sends a process a signal.
pub fn send(signal: &str, pid: u32) {
    run("sh", &["-c", &format!("kill -s {signal} {pid}")]);
}

/// A key pair of the test's own.
pub struct SshKey {
    folder: TempDir,
    pub public: String,
}

impl SshKey {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path.to_str().unwrap()]);
        let public = fs::read_to_string(folder.path().join("key.pub")).unwrap().trim().to_owned();
        Self { folder, public }
    }

    /// The public key, ready for a form.
    pub fn encoded(&self) -> String {
        self.public.replace('+', "%2B").replace(' ', "+").replace('/', "%2F").replace('=', "%3D")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// An ssh command for this port, with this key and no other.
    pub fn ssh(&self, port: &str, remote: &[&str]) -> Command {
        self.ssh_at("127.0.0.1", port, &[], remote)
    }

    /// The same at another address of the machine, with options of its own.
    pub fn ssh_at(&self, host: &str, port: &str, options: &[&str], remote: &[&str]) -> Command {
        let mut command = self.client("ssh", &["-p", port]);
        command.args(options).arg(format!("student@{host}")).args(remote);
        command
    }

    /// The same to copy a file.
    pub fn scp(&self, port: &str, from: &str, to: &str) -> Command {
        let mut command = self.client("scp", &["-P", port]);
        command.args([from, to]);
        command
    }

    fn client(&self, program: &str, port: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-i").arg(self.path()).args(port).args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "ConnectTimeout=10", "-F", "none"]);
        command
    }

    /// Runs a command there, and answers what it wrote, if the login works.
    pub fn login(&self, port: &str, remote: &[&str]) -> Result<String, String> {
        let output = self.ssh(port, remote).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same as soon as the container serves SSH, which a busy machine may keep it from for a while.
    pub fn login_soon(&self, port: &str, remote: &[&str]) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self.login(port, remote) {
                Ok(wrote) => return wrote,
                Err(error) => assert!(Instant::now() < deadline, "nobody gets in: {error}"),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Logs in and stays, until it is dropped.
    pub fn stay(&self, port: &str) -> Session {
        let mut child = self.ssh(port, &["echo in; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        Session(child)
    }
}

/// Somebody who is logged in.
pub struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.flush();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
