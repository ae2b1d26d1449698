//! What the suite needs beside the engine itself: things to make, and hands to do what is not Spindown's to do.

use std::{collections::BTreeMap, net::Ipv4Addr, net::TcpListener, process::Command, sync::Arc, time::Duration};

use async_trait::async_trait;
use spindown::{
    clock::SystemClock,
    engine::{
        Engine, NetworkSpec,
        docker::{Deadlines, Docker},
        sim::Sim,
    },
    model::{
        Blueprint, Container, ContainerId, DiskSpace, EngineId, Image, Limits, Name, Port, Protocol,
        RegistryCredentials, Timeout, VolumeName, Wake, birth,
    },
};

use crate::support::{
    block::{Block, IMAGE},
    registry::Registry,
};

/// Where the real engine listens.
pub const SOCKET: &str = "/var/run/docker.sock";
/// An image without an entry point, so that a command is run as it is.
pub const PLAIN: &str = "plain";

/// Anything that gives something back when it is dropped.
pub trait Held {}
impl<T> Held for T {}

/// An image at a private registry.
pub struct Published {
    pub image: String,
    pub credentials: RegistryCredentials,
    /// The registry, while it is needed.
    pub _held: Box<dyn Held + Send + Sync>,
}

/// An engine and the means to act behind its back.
#[async_trait]
pub trait Rig: Send + Sync {
    fn engine(&self) -> &dyn Engine;
    fn network(&self) -> NetworkSpec;
    /// A container's blueprint; different numbers do not get in each other's way.
    fn blueprint(&self, number: usize) -> Blueprint;
    /// The same for an image that runs just the command.
    fn plain(&self, number: usize) -> Blueprint;
    /// The same engine, which watches a command for as long as it may take to end on a busy machine; `None` if time does
    /// not matter to it.
    fn patient(&self) -> Option<Box<dyn Engine>> {
        None
    }
    /// The same for a container that lives until [`Rig::end`].
    fn mortal(&self, number: usize) -> Blueprint;
    /// Lets such a container end by itself with exit code 3.
    fn end(&self, id: &EngineId);
    /// A name that no other test uses.
    fn name(&self, name: &str) -> Name;
    fn foreign(&self) -> EngineId;
    /// Makes a volume that is somebody else's.
    fn foreign_volume(&self, name: &VolumeName);
    fn is_there(&self, id: &EngineId) -> bool;
    fn freeze_behind(&self, id: &EngineId);
    fn kill_behind(&self, id: &EngineId);
    fn start_behind(&self, id: &EngineId);
    fn remove_behind(&self, id: &EngineId);
    fn remove_network(&self);
    /// Whether a running container is reached at an address.
    fn answers_at(&self, id: &EngineId, address: Ipv4Addr) -> bool;
    /// Takes a port of the host until the answer is dropped.
    fn occupy(&self, port: u16) -> Box<dyn Held + '_>;
    /// An image that can be pulled with credentials.
    async fn publish(&self) -> Published;
    /// Lets a running container write a line.
    fn say(&self, id: &EngineId, line: &str);
    /// Lets it write so many bytes into its file system.
    fn fill(&self, id: &EngineId, bytes: u64);
}

fn blueprint(instance: &str, network: &NetworkSpec, first_port: u16, number: usize) -> Blueprint {
    let id = ContainerId::from_bits(number as u128 + 1);
    let labels = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    Blueprint {
        labels: Container::birth_labels(instance, &id, "admin", Timeout::Never, Wake::Always, &labels),
        id,
        name: None,
        hostname: None,
        image: IMAGE.to_owned(),
        command: None,
        env: BTreeMap::new(),
        ports: vec![Port { container: 22, host: first_port + number as u16, protocol: Protocol::Tcp }],
        bind: Ipv4Addr::LOCALHOST.into(),
        network: network.name.clone(),
        address: network.addresses().nth(number).unwrap(),
        limits: Limits { memory: 256 << 20, cpus: 0.5, pids: 100, log_size: 1 << 20 },
        volumes: BTreeMap::new(),
    }
}

/// Runs the docker command and answers its output.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A real engine, in a block of its own.
pub struct DockerRig {
    pub docker: Docker,
    pub block: Block,
}

impl DockerRig {
    pub async fn new() -> Self {
        let block = Block::take();
        let docker = Docker::connect(&format!("unix://{SOCKET}"), &block.instance()).unwrap();
        let rig = Self { docker, block };
        rig.forget();
        rig.docker.ensure_network(&rig.block.network()).await.unwrap();
        rig
    }

    /// An image of this block, made from a Dockerfile on top of the usual one.
    pub fn image(&self, name: &str, lines: &str) -> String {
        use std::{io::Write, process::Stdio};
        let tag = format!("{}/{name}", self.block.instance());
        let mut build = Command::new("docker")
            .args(["build", "--quiet", "--tag", &tag, "-"])
            // The engine's own builder: the other needs a plugin.
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        write!(build.stdin.take().unwrap(), "FROM {IMAGE}\n{lines}\n").unwrap();
        assert!(build.wait().unwrap().success());
        tag
    }

    fn stranger(&self) -> String {
        format!("{}-stranger", self.block.instance())
    }

    /// Removes what the block's own clearing does not know.
    fn forget(&self) {
        let instance = self.block.instance();
        let quiet = |arguments: &[&str]| Command::new("docker").args(arguments).output().unwrap();
        quiet(&["rm", "-f", "-v", &self.stranger()]);
        for name in ["kept", "strange"] {
            quiet(&["volume", "rm", "-f", &format!("{instance}-{name}")]);
        }
        let ours = format!("label={}={instance}", birth::MANAGED);
        for id in docker(&["ps", "-aq", "--filter", &ours]).split_whitespace() {
            quiet(&["rm", "-f", "-v", id]);
        }
        for tag in docker(&["images", "--format", "{{.Repository}}", &format!("{instance}/*")]).split_whitespace() {
            quiet(&["rmi", "-f", tag]);
        }
    }
}

impl Drop for DockerRig {
    fn drop(&mut self) {
        self.forget();
    }
}

#[async_trait]
impl Rig for DockerRig {
    fn engine(&self) -> &dyn Engine {
        &self.docker
    }

    fn network(&self) -> NetworkSpec {
        self.block.network()
    }

    fn blueprint(&self, number: usize) -> Blueprint {
        blueprint(&self.block.instance(), &self.network(), self.block.ports().0, number)
    }

    fn plain(&self, number: usize) -> Blueprint {
        Blueprint { image: self.image(PLAIN, "ENTRYPOINT []"), ..self.blueprint(number) }
    }

    fn patient(&self) -> Option<Box<dyn Engine>> {
        let docker = Docker::connect(&format!("unix://{SOCKET}"), &self.block.instance()).unwrap();
        let deadlines = Deadlines { proof: Duration::from_secs(30), ..Deadlines::default() };
        Some(Box::new(docker.with_deadlines(deadlines)))
    }

    fn mortal(&self, number: usize) -> Blueprint {
        let script = "until [ -e /tmp/end ]; do sleep 0.02; done; exit 3";
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Blueprint { command: Some(command), ..self.plain(number) }
    }

    fn end(&self, id: &EngineId) {
        docker(&["exec", id.as_str(), "touch", "/tmp/end"]);
    }

    fn name(&self, name: &str) -> Name {
        Name::parse(&format!("{}-{name}", self.block.instance())).unwrap()
    }

    fn foreign(&self) -> EngineId {
        // Of another instance of Spindown: the closest that a stranger comes.
        let label = format!("{}=another", birth::MANAGED);
        let id = format!("{}={}", birth::ID, ContainerId::from_bits(9));
        let id = docker(&["create", "--name", &self.stranger(), "--label", &label, "--label", &id, IMAGE]);
        EngineId::parse(&id).unwrap()
    }

    fn foreign_volume(&self, name: &VolumeName) {
        docker(&["volume", "create", name.as_str()]);
    }

    fn is_there(&self, id: &EngineId) -> bool {
        docker(&["inspect", "--format", "{{.State.Status}}", id.as_str()]) == "created"
    }

    fn freeze_behind(&self, id: &EngineId) {
        docker(&["pause", id.as_str()]);
    }

    fn kill_behind(&self, id: &EngineId) {
        docker(&["stop", id.as_str()]);
    }

    fn start_behind(&self, id: &EngineId) {
        docker(&["start", id.as_str()]);
    }

    fn remove_behind(&self, id: &EngineId) {
        docker(&["rm", "-f", "-v", id.as_str()]);
    }

    fn remove_network(&self) {
        docker(&["network", "rm", &self.network().name]);
    }

    fn answers_at(&self, id: &EngineId, address: Ipv4Addr) -> bool {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, id.as_str()]) == address.to_string()
    }

    fn occupy(&self, port: u16) -> Box<dyn Held + '_> {
        Box::new(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap())
    }

    async fn publish(&self) -> Published {
        let registry = Registry::start();
        let image = registry.push(&format!("{}/tiny:1", self.block.instance()));
        Published { image, credentials: registry.credentials(), _held: Box::new(registry) }
    }

    fn say(&self, id: &EngineId, line: &str) {
        docker(&["exec", id.as_str(), "sh", "-c", &format!("echo {line} >/proc/1/fd/1")]);
    }

    fn fill(&self, id: &EngineId, bytes: u64) {
        docker(&["exec", id.as_str(), "sh", "-c", &format!("head -c {bytes} /dev/zero >/tmp/fill")]);
    }
}

/// The simulated engine.
pub struct SimRig {
    pub sim: Sim,
}

impl SimRig {
    pub async fn new() -> Self {
        let sim = Sim::new(Arc::new(SystemClock::new()));
        let labels = BTreeMap::from([("spindown.ssh.user".to_owned(), "student".to_owned())]);
        sim.add_image(IMAGE, Image { id: "sha256:1".to_owned(), exposed: vec![(22, Protocol::Tcp)], labels });
        sim.add_image(PLAIN, Image::default());
        for word in ["nonesuch", "/no/such", "/etc/passwd"] {
            sim.forbid_command(word);
        }
        sim.set_disk(Some(DiskSpace { free: 5 << 30, total: 9 << 30 }));
        let rig = Self { sim };
        rig.sim.ensure_network(&rig.network()).await.unwrap();
        rig
    }
}

#[async_trait]
impl Rig for SimRig {
    fn engine(&self) -> &dyn Engine {
        &self.sim
    }

    fn network(&self) -> NetworkSpec {
        NetworkSpec { name: "sim".to_owned(), bridge: "sim".to_owned(), subnet: "10.99.0.0/16".parse().unwrap() }
    }

    fn blueprint(&self, number: usize) -> Blueprint {
        blueprint("sim", &self.network(), 20_000, number)
    }

    fn plain(&self, number: usize) -> Blueprint {
        Blueprint { image: PLAIN.to_owned(), ..self.blueprint(number) }
    }

    fn mortal(&self, number: usize) -> Blueprint {
        self.blueprint(number)
    }

    fn end(&self, id: &EngineId) {
        self.sim.end(id, 3);
    }

    fn name(&self, name: &str) -> Name {
        Name::parse(name).unwrap()
    }

    fn foreign(&self) -> EngineId {
        self.sim.add_foreign()
    }

    fn foreign_volume(&self, name: &VolumeName) {
        self.sim.add_foreign_volume(name.clone());
    }

    fn is_there(&self, id: &EngineId) -> bool {
        self.sim.has(id)
    }

    fn freeze_behind(&self, id: &EngineId) {
        self.sim.freeze_behind(id);
    }

    fn kill_behind(&self, id: &EngineId) {
        self.sim.kill_behind(id);
    }

    fn start_behind(&self, id: &EngineId) {
        self.sim.start_behind(id).unwrap();
    }

    fn remove_behind(&self, id: &EngineId) {
        self.sim.remove_behind(id);
    }

    fn remove_network(&self) {
        self.sim.remove_network(&self.network().name);
    }

    fn answers_at(&self, _: &EngineId, _: Ipv4Addr) -> bool {
        true
    }

    fn occupy(&self, port: u16) -> Box<dyn Held + '_> {
        struct Taken<'a>(&'a Sim, u16);
        impl Drop for Taken<'_> {
            fn drop(&mut self) {
                self.0.free_port(self.1, Protocol::Tcp);
            }
        }
        self.sim.occupy_port(port, Protocol::Tcp);
        Box::new(Taken(&self.sim, port))
    }

    async fn publish(&self) -> Published {
        let image = "registry.example/tiny:1".to_owned();
        let exposed = Image { exposed: vec![(80, Protocol::Tcp)], ..Image::default() };
        self.sim.publish(&image, exposed, Some(("ada", "secret")));
        let [username, password] = ["ada", "secret"].map(|text| Some(text.to_owned()));
        let credentials = RegistryCredentials { username, password, ..Default::default() };
        Published { image, credentials, _held: Box::new(()) }
    }

    fn say(&self, id: &EngineId, line: &str) {
        self.sim.say(id, line).unwrap();
    }

    fn fill(&self, id: &EngineId, bytes: u64) {
        self.sim.fill(id, bytes).unwrap();
    }
}
