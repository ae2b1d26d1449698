//! The ladder: what counts as use where the server sees for itself, what is frozen and thaws, and what goes on down.

mod knocks;
mod orders;
mod signs;

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use futures::future::join_all;
use rand::Rng;

use super::*;
use crate::support::{block::Block, server::SshKey, street::Street};

/// A server that looks and judges each second, and measures work over four.
const EYES: [(&str, &str); 3] =
    [("SPINDOWN_IDLE_SWEEP", "1s"), ("SPINDOWN_EVIDENCE_EVERY", "1s"), ("SPINDOWN_EVIDENCE_WINDOW", "4s")];
/// A person in the street, unless a test needs more of them.
const ADA: u8 = 0;

/// A server, people in the street, and the key that all its containers have.
struct House {
    server: Server,
    key: SshKey,
    street: Arc<Street>,
}

impl House {
    fn open() -> Self {
        let block = Arc::new(Block::take());
        let street = Arc::new(Street::before(&block));
        let server = Server::try_start(block, &EYES).expect("the server starts");
        Self { server, key: SshKey::make(), street }
    }

    /// A container that serves SSH.
    async fn create(&self, more: &str) -> Value {
        let made = self.server.create(&format!("authorized_keys={}&{more}", self.key.encoded())).await;
        until_greeted(HERE, port(&made)).await;
        made
    }

    /// An ssh command for it from somebody's place.
    fn ssh(&self, container: &Value, person: u8, options: &[&str], remote: &[&str]) -> Command {
        self.ssh_with(&self.key, container, person, options, remote)
    }

    fn ssh_with(&self, key: &SshKey, container: &Value, person: u8, options: &[&str], remote: &[&str]) -> Command {
        let (from, to) = (self.street.person(person).to_string(), self.street.house().to_string());
        let options = [&["-b", &from], options].concat();
        self.street.command(&key.ssh_at(&to, &port(container).to_string(), &options, remote))
    }

    /// Somebody runs a command there, and is answered what it wrote.
    fn login(&self, container: &Value, person: u8, remote: &[&str]) -> Result<String, String> {
        let output = self.ssh(container, person, &[], remote).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Somebody logs in and sits at a terminal there.
    async fn sit_down(&self, container: &Value, person: u8) -> Typist {
        // With these the terminal says nothing but what is typed and what commands say.
        let shell = "PS1= exec bash --norc --noprofile -i";
        let mut typist = Typist::begin(self.ssh(container, person, &["-tt"], &[shell]));
        typist.types("echo $((40+2))\n");
        typist.hears("42").await;
        typist
    }

    async fn see(&self, container: &Value) -> Value {
        self.server.get(&path(container)).await.json
    }

    async fn status(&self, container: &Value) -> String {
        self.see(container).await["status"].as_str().unwrap().to_owned()
    }

    async fn activity(&self, container: &Value) -> Value {
        self.server.get(&format!("{}/activity", path(container))).await.json
    }

    /// What happened to it, the first first.
    async fn history(&self, container: &Value) -> Vec<Value> {
        self.activity(container).await["history"].as_array().unwrap().iter().rev().cloned().collect()
    }

    async fn becomes(&self, container: &Value, status: &str) -> Value {
        let path = path(container);
        self.server.wait_within(LONG, &path, status, |a| a.json["status"] == status).await.json
    }

    /// Freezes it by request.
    async fn freeze(&self, container: &Value) {
        let frozen = self.server.patch(&path(container), "status=frozen").await;
        assert_eq!((frozen.status, &frozen.json["status"]), (200, &"frozen".into()), "{:#}", frozen.json);
    }
}

/// Within this time whatever is due happens, on a busy machine too.
const LONG: Duration = Duration::from_secs(60);

/// Somebody at a terminal.
struct Typist {
    child: Child,
    input: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of the screen has been read.
    read: usize,
}

impl Typist {
    fn begin(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let screen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Self { child, input, screen, read: 0 }
    }

    fn types(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Waits until this is on the screen, below what has been read; answers how long that took.
    async fn hears(&mut self, what: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let shown = self.screen.lock().unwrap()[self.read..].to_vec();
            if let Some(at) = shown.windows(what.len()).position(|window| window == what.as_bytes()) {
                self.read += at + what.len();
                return begun.elapsed();
            }
            let shown = String::from_utf8_lossy(&shown).into_owned();
            assert!(begun.elapsed() < SOON, "{what:?} is not to be seen: {shown:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(history: &[Value]) -> Vec<&str> {
    history.iter().map(|what| what["event"].as_str().unwrap()).collect()
}

/// When this run of it began, as the engine tells.
fn run_of(container: &Value) -> String {
    inspect(container, "{{.State.StartedAt}}")
}

fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    rand::rng().fill(noise.as_mut_slice());
    noise
}

/// The median and the 99th in a hundred.
fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[(times.len() * 99).div_ceil(100) - 1])
}
