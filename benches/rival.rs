//! The rival: the engine itself, called as thinly as can be, with containers like those that Spindown makes, on a network
//! of its own, so that no server hears of them.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use spindown::{
    engine::{Engine, docker::Docker},
    model::{Blueprint, Container, ContainerId, EngineId, Limits, Port, Protocol, Timeout, Wake},
};

use crate::support::block::Block;

/// What Spindown gives a container unless told otherwise.
pub const LIMITS: Limits = Limits { memory: 512 << 20, cpus: 1.0, pids: 256, log_size: 10 << 20 };

pub struct Rival {
    pub engine: Docker,
    block: Arc<Block>,
    addresses: Vec<Ipv4Addr>,
}

impl Rival {
    /// One in this block.
    pub async fn meet(block: Arc<Block>) -> Self {
        let engine = Docker::connect("unix:///var/run/docker.sock", &block.instance()).unwrap();
        engine.ensure_network(&block.network()).await.unwrap();
        let addresses = block.network().addresses().collect();
        Self { engine, block, addresses }
    }

    /// What the engine is told of the container of this number, which names its port and its address.
    pub fn blueprint(&self, image: &str, inside: u16, number: usize) -> Blueprint {
        let id = ContainerId::from_bits(rand::random());
        let host = self.block.ports().0 + u16::try_from(number).unwrap();
        Blueprint {
            labels: Container::birth_labels(
                &self.block.instance(),
                &id,
                "admin",
                Timeout::Never,
                Wake::Always,
                &BTreeMap::from([("course".to_owned(), "rust".to_owned())]),
            ),
            id,
            name: None,
            hostname: None,
            image: image.to_owned(),
            command: None,
            env: BTreeMap::new(),
            ports: vec![Port { container: inside, host, protocol: Protocol::Tcp }],
            bind: Ipv4Addr::UNSPECIFIED.into(),
            network: self.block.network().name,
            address: self.addresses[number],
            limits: LIMITS,
            volumes: Default::default(),
        }
    }

    /// `docker run -d` of such a container, as a person would write it.
    pub fn command(&self, image: &str, inside: u16, number: usize) -> tokio::process::Command {
        let blueprint = self.blueprint(image, inside, number);
        let port = blueprint.ports[0];
        let mut command = tokio::process::Command::new("docker");
        command.args(["run", "-d", "--init", "--network", &blueprint.network]);
        command.args(["--ip", &blueprint.address.to_string(), "-p", &format!("{}:{}", port.host, port.container)]);
        command.args(["--memory", "512m", "--memory-swap", "512m", "--cpus", "1", "--pids-limit", "256"]);
        command.args(["--log-opt", "max-size=5m", "--log-opt", "max-file=2"]);
        command.args(["--cap-drop", "NET_RAW", "--cap-drop", "MKNOD"]);
        for (name, value) in &blueprint.labels {
            command.args(["--label", &format!("{name}={value}")]);
        }
        command.arg(image).stdout(std::process::Stdio::null()).stdin(std::process::Stdio::null()).kill_on_drop(true);
        command
    }

    /// Waits until port 22 of the container of this number accepts connections.
    pub async fn accepts(&self, number: usize) {
        while self.engine.accepts(self.addresses[number], 22).await.unwrap() != Some(true) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Removes one.
    pub async fn remove(&self, id: &EngineId) {
        self.engine.remove(id).await.unwrap();
    }

    /// Removes all.
    pub async fn clear(&self) {
        let all = self.engine.list().await.unwrap();
        futures::future::join_all(all.iter().map(|listed| self.remove(&listed.engine_id))).await;
    }
}
