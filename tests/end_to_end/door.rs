//! The door: connecting to a container that sleeps is all that it takes to have it back.

mod kinds;
mod order;
mod storm;

use std::{io::ErrorKind, net::TcpListener, sync::Arc};

use futures::future::join_all;
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream as Stream,
};

use super::*;
use crate::support::{
    block::Block,
    brew::Brew,
    parrot::{self, ECHOES, REPEATS, tell},
};

/// Sweeps each second.
const SWEEPS: (&str, &str) = ("SPINDOWN_IDLE_SWEEP", "1s");

/// A server and an image of parrots.
struct Aviary {
    server: Server,
    brew: Brew,
}

impl Aviary {
    fn open() -> Self {
        Self::of("", 0)
    }

    fn of(greeting: &str, delay: u32) -> Self {
        let block = Arc::new(Block::take());
        let brew = parrot::brew(&block, "parrot", greeting, delay);
        Self { server: Server::try_start(block, &[SWEEPS]).expect("the server starts"), brew }
    }

    async fn create(&self, more: &str) -> Value {
        let made = self.server.post("/v1/containers", &format!("image={}&{more}", self.brew.0)).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        made.json
    }

    /// One that has gone to sleep, and stays up for long when it is woken.
    async fn asleep(&self) -> Value {
        let made = self.create("idle_timeout=1s").await;
        put_to_sleep(&self.server, &made).await
    }
}

/// Waits until a container that is idle soon has been stopped for that; from then on it may stay up for long.
async fn put_to_sleep(server: &Server, container: &Value) -> Value {
    let asleep = server.wait_for_status(container["id"].as_str().unwrap(), "stopped").await;
    assert_eq!(asleep["stopped_by"], "idle", "{asleep:#}");
    let changed = server.patch(&path(container), "idle_timeout=1h").await;
    assert_eq!((changed.status, &changed.json["status"]), (200, &"stopped".into()), "{:#}", changed.json);
    changed.json
}

/// Puts one to sleep that is awake, without a wait for the timeout that it has.
async fn put_back_to_sleep(server: &Server, container: &Value) {
    server.patch(&path(container), "idle_timeout=1s").await;
    put_to_sleep(server, container).await;
}

/// The host's port that leads to this one of a container's.
fn published(container: &Value, inside: u16) -> u16 {
    let ports = container["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["container_port"] == inside).unwrap_or_else(|| panic!("{container:#}"));
    port["host_port"].as_u64().unwrap().try_into().unwrap()
}

fn at(container: &Value, inside: u16) -> SocketAddr {
    (HERE, published(container, inside)).into()
}

/// A container's own name for itself, unless it was told another.
fn name(container: &Value) -> &str {
    &container["id"].as_str().unwrap()[..12]
}

async fn status(server: &Server, container: &Value) -> String {
    server.get(&path(container)).await.json["status"].as_str().unwrap().to_owned()
}

/// What happened to it last, the latest first.
async fn history(server: &Server, container: &Value) -> Vec<Value> {
    let activity = server.get(&format!("{}/activity", path(container))).await.json;
    activity["history"].as_array().unwrap().clone()
}

/// An address of the loopback network that nobody else here uses: a source of connections that is not known yet.
fn stranger() -> IpAddr {
    let [a, b, c] = rand::random::<[u8; 3]>();
    Ipv4Addr::new(127, a.max(1), b, c.clamp(2, 254)).into()
}

fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    rand::rng().fill(noise.as_mut_slice());
    noise
}

/// Asserts that a port is closed: whoever connects is refused.
#[track_caller]
fn assert_closed(container: &Value) {
    let refused = TcpStream::connect(at(container, REPEATS)).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
