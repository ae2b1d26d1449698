//! A Redis server of the test's own, on a port and in a folder of its own. It ends when it is dropped.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

/// Below the kernel's ephemeral range, so that no connection takes the port while the server is down.
const FIRST_PORT: u16 = 18_000;
const PORTS: u16 = 400;

/// The server's process, with its output kept open.
struct Process {
    child: Child,
    _output: BufReader<ChildStdout>,
}

/// A server, running or killed.
pub struct RedisServer {
    process: Option<Process>,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
    _lock: File,
}

impl RedisServer {
    /// A server that keeps nothing over a restart.
    pub fn start() -> Self {
        Self::start_with(&["--appendonly", "no"])
    }

    /// A server that makes every write safe before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with options of its own.
    pub fn start_with(options: &[&str]) -> Self {
        let locks = std::env::temp_dir().join("spindown-test-redis");
        std::fs::create_dir_all(&locks).unwrap();
        let options = options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        for port in FIRST_PORT..FIRST_PORT + PORTS {
            let lock = File::create(locks.join(port.to_string())).unwrap();
            if lock.try_lock().is_err() {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            // Somebody else's server may sit on the port.
            if let Some(process) = spawn(port, &folder, &options) {
                return Self { process: Some(process), port, options, folder, _lock: lock };
            }
        }
        panic!("no port is left for a Redis server");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Hangs it: connections stay open, nothing is answered.
    pub fn hang(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        }
    }

    /// Starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.kill();
        self.process = Some(spawn(self.port, &self.folder, &self.options).expect("the port is still ours"));
    }

    /// Sends one command as people type it and answers what comes back.
    pub fn tell(&self, command: &str) -> String {
        tell(self.port, command)
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").child.id()
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -s {name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server and waits until it answers; `None` if it ends before.
fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Option<Process> {
    // Should the test be killed, the server dies with it.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder.path())
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server and setpriv are installed");
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if line.contains("Ready to accept connections") {
            let answer = tell(port, "PING");
            assert!(answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"), "{answer}");
            return Some(Process { child, _output: output });
        }
        line.clear();
    }
    child.wait().unwrap();
    None
}

fn tell(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
