//! A real container to look into, and who uses it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use spindown::{
    model::{ContainerId, EngineId, Look, Result, Target},
    sight::{Sight, linux::Linux},
};

use crate::support::{
    block::IMAGE,
    server::{SOON, SshKey, run},
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A container, removed when this is dropped.
pub struct Sandbox {
    pub name: String,
}

impl Sandbox {
    /// One that serves SSH.
    pub fn ssh() -> Self {
        Self::with(&["-p", "127.0.0.1::22"], &[])
    }

    /// One that runs a perl program.
    pub fn perl(program: &str) -> Self {
        Self::with(&["--entrypoint", "perl"], &["-MSocket=:all", "-MIO::Socket::INET", "-e", program])
    }

    pub fn with(options: &[&str], command: &[&str]) -> Self {
        let name = format!("sighttest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let sandbox = Self { name };
        // Rights as the service gives them.
        let mut words = vec!["run", "-d", "--init", "--name", &sandbox.name, "--cap-drop", "NET_RAW"];
        words.extend(options);
        words.push(IMAGE);
        words.extend(command);
        run("docker", &words);
        sandbox
    }

    fn inspect(&self, what: &str) -> String {
        run("docker", &["inspect", "-f", what, &self.name])
    }

    /// Where it is to be looked for now.
    pub fn target(&self) -> Target {
        Target {
            id: ContainerId::from_bits(1),
            engine_id: EngineId::parse(&self.inspect("{{.Id}}")).unwrap(),
            pid: self.inspect("{{.State.Pid}}").parse().unwrap(),
            logins: true,
            surely: false,
        }
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.inspect("{{.NetworkSettings.IPAddress}}").parse().unwrap()
    }

    /// The port of this machine at which its SSH is.
    pub fn port(&self) -> String {
        self.inspect("{{(index (index .NetworkSettings.Ports \"22/tcp\") 0).HostPort}}")
    }

    /// Runs a script in it as root.
    pub fn exec(&self, script: &str) -> String {
        run("docker", &["exec", "-u", "root", &self.name, "sh", "-c", script])
    }

    /// Starts a script in it as root.
    pub fn exec_beside(&self, script: &str) -> Guest {
        let words = ["exec", "-i", "-u", "root", &self.name, "sh", "-c", script];
        Guest::new(Command::new("docker").args(words))
    }

    /// Lets a key in.
    pub fn let_in(&self, key: &SshKey) {
        let file = "/home/student/.ssh/authorized_keys";
        self.exec(&format!("echo '{}' >{file}; chown student {file}; chmod 600 {file}", key.public));
        key.login_soon(&self.port(), &["true"]);
    }

    /// Connects to a port as soon as it listens.
    pub fn connect(&self, port: u16) -> TcpStream {
        let ip = self.ip();
        soon("it listens", || TcpStream::connect((ip, port)).ok())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let remove = ["rm", "-f", "-v", &self.name];
        drop(Command::new("docker").args(remove).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// A program with somebody at its ends, who notes what it writes. Killed when this is dropped.
pub struct Guest {
    child: Child,
    wrote: Arc<Mutex<String>>,
}

impl Guest {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (wrote, out): (Arc<Mutex<String>>, _) = (Arc::default(), child.stdout.take().unwrap());
        let noted = Arc::clone(&wrote);
        thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                noted.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { child, wrote }
    }

    pub fn types(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    pub fn wrote(&self) -> String {
        self.wrote.lock().unwrap().clone()
    }

    /// Waits until it has written this.
    pub fn until(&self, text: &str) {
        soon(text, || self.wrote().contains(text).then_some(()));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is one.
pub fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

pub fn eyes() -> Linux {
    let eyes = Linux::new().unwrap();
    assert!(eyes.sees());
    eyes
}

/// Looks at one.
pub async fn try_look(eyes: &Linux, target: &Target) -> Result<Look> {
    let mut looks = eyes.look(vec![target.clone()]).await;
    assert_eq!(looks.len(), 1);
    assert_eq!(looks[0].0, target.id);
    looks.remove(0).1
}

/// Looks at one that is there.
pub async fn look(eyes: &Linux, target: &Target) -> Look {
    try_look(eyes, target).await.unwrap()
}

/// Looks until this is seen.
pub async fn look_until(eyes: &Linux, target: &Target, what: &str, mut is_it: impl FnMut(&Look) -> bool) -> Look {
    let deadline = Instant::now() + SOON;
    loop {
        let look = look(eyes, target).await;
        if is_it(&look) {
            return look;
        }
        assert!(Instant::now() < deadline, "never: {what}: {look:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
