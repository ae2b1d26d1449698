//! The carrier, a process of its own: no byte is lost on the way, no end is made to look like another, and it outlives
//! whoever handed the connections over.

use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sha2::{Digest, Sha256};
use spindown::{
    carrier::{
        Carrier,
        copy::end_abruptly,
        link::Link,
        message::{PAGE, Passage, VERSION},
    },
    model::Kind,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than all buffers on the way hold.
const MUCH: usize = 24 << 20;

/// A carrier's folder, and the processes that were started there.
struct Rig {
    folder: TempDir,
    started: Arc<Mutex<Vec<Pid>>>,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), started: Arc::default() }
    }

    /// The way to the carrier, as a server has it.
    fn link(&self) -> Link {
        let started = Arc::clone(&self.started);
        let starter = move |socket: &Path| {
            let child = Command::new(env!("CARGO_BIN_EXE_spindown"))
                .arg("carry")
                .arg(socket)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            started.lock().unwrap().push(Pid::from_child(&child));
            // It is waited for, so that it can be seen to have ended.
            std::thread::spawn(move || drop({ child }.wait()));
            Ok(())
        };
        Link::new(self.folder.path(), Box::new(starter))
    }

    fn pids(&self) -> Vec<Pid> {
        self.started.lock().unwrap().clone()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn passage() -> Passage {
    Passage {
        container: "0123456789abcdef0123456789abcdef".to_owned(),
        port: 20_000,
        client: "192.0.2.7:4711".parse().unwrap(),
        since: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
    }
}

/// Two ends of a new connection over loopback.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

fn descriptor(stream: TcpStream) -> OwnedFd {
    stream.into_std().unwrap().into()
}

/// A client and a container, with the carrier between them.
async fn carried(link: &Link) -> (TcpStream, TcpStream) {
    let ((client, near), (far, container)) = (connection().await, connection().await);
    link.carry(passage(), descriptor(near), descriptor(far)).await.unwrap();
    (client, container)
}

fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
    noise
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends")?;
    Ok(bytes)
}

#[tokio::test]
async fn bytes_go_both_ways_at_once_and_whole() {
    let rig = Rig::new();
    let link = rig.link();
    let (client, container) = carried(&link).await;
    let ends = [client, container].map(|stream| {
        tokio::spawn(async move {
            let sent = noise(MUCH);
            let (mut reader, mut writer) = stream.into_split();
            let (digest, writing) = (Sha256::digest(&sent), async move {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let ((), received) = tokio::join!(writing, read_all(&mut reader));
            (digest, Sha256::digest(received.unwrap()))
        })
    });
    let [client, container] = ends;
    let (client, container) = (client.await.unwrap(), container.await.unwrap());
    assert_eq!((client.0, container.0), (container.1, client.1));
}

#[tokio::test]
async fn who_has_said_all_goes_on_listening() {
    let rig = Rig::new();
    let (mut client, mut container) = carried(&rig.link()).await;
    client.write_all(b"how much?").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut container).await.unwrap(), b"how much?");
    let answer = noise(MUCH);
    let (written, received) = tokio::join!(
        async {
            container.write_all(&answer).await?;
            container.shutdown().await
        },
        read_all(&mut client)
    );
    written.unwrap();
    assert!(received.unwrap() == answer);
}

#[tokio::test]
async fn what_breaks_off_is_not_made_to_look_like_an_end() {
    let rig = Rig::new();
    let link = rig.link();
    for container_breaks in [true, false] {
        let (client, container) = carried(&link).await;
        let (breaks, mut other) = if container_breaks { (container, client) } else { (client, container) };
        end_abruptly(&breaks).unwrap();
        drop(breaks);
        assert_eq!(read_all(&mut other).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_carrier_that_is_killed_ends_nothing_cleanly() {
    let rig = Rig::new();
    let (mut client, mut container) = carried(&rig.link()).await;
    // One half has ended, as it should.
    container.shutdown().await.unwrap();
    let mut byte = [0];
    assert_eq!(timeout(PATIENCE, client.read(&mut byte)).await.unwrap().unwrap(), 0);
    client.write_all(b"and").await.unwrap();
    assert_eq!(timeout(PATIENCE, container.read_exact(&mut byte)).await.unwrap().unwrap(), 1);
    kill_process(rig.pids()[0], Signal::KILL).unwrap();
    assert_eq!(read_all(&mut container).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn it_outlives_the_server_and_is_found_again() {
    let rig = Rig::new();
    let link = rig.link();
    let (mut client, mut container) = carried(&link).await;
    client.write_all(b"before").await.unwrap();
    drop(link);
    let mut room = [0; 6];
    container.read_exact(&mut room).await.unwrap();
    let link = rig.link();
    let all = link.carried().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0].passage, all[0].received, all[0].sent), (&passage(), 6, 0));
    container.write_all(b"after").await.unwrap();
    drop(container);
    assert_eq!(read_all(&mut client).await.unwrap(), b"after");
    assert_eq!(rig.pids().len(), 1, "one was enough");
}

#[tokio::test]
async fn all_that_are_carried_are_told() {
    let rig = Rig::new();
    let link = rig.link();
    let mut ends = Vec::new();
    for _ in 0..PAGE + 7 {
        ends.push(carried(&link).await);
    }
    let all = link.carried().await.unwrap();
    assert_eq!(all.len(), ends.len());
    assert!(all.is_sorted_by_key(|carried| carried.number));
    drop(ends);
    let none = async {
        while !link.carried().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, none).await.expect("what has ended is forgotten");
}

#[tokio::test]
async fn a_carrier_that_was_killed_is_started_again() {
    let rig = Rig::new();
    let link = rig.link();
    let (client, _container) = carried(&link).await;
    kill_process(rig.pids()[0], Signal::KILL).unwrap();
    drop(client);
    // Whichever call meets the dead one may fail; none after it.
    let _ = link.carried().await;
    let (mut client, mut container) = carried(&link).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, container.read_u8()).await.unwrap().unwrap(), b'x');
    assert_eq!(rig.pids().len(), 2);
}

#[tokio::test]
async fn it_ends_when_nobody_needs_it() {
    let rig = Rig::new();
    let link = rig.link();
    let (client, container) = carried(&link).await;
    let pid = rig.pids()[0];
    drop((client, container, link));
    let ended = async {
        while test_kill_process(pid).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it ends by itself");
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0, "its socket is gone with it");
}

#[tokio::test]
async fn where_none_can_be_started_the_connection_ends_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let link = Link::new(folder.path(), Box::new(|_| Err(ErrorKind::NotFound.into())));
    let ((mut client, near), (far, _container)) = (connection().await, connection().await);
    let error = link.carry(passage(), descriptor(near), descriptor(far)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(read_all(&mut client).await.unwrap().is_empty());
}

#[test]
fn the_unit_speaks_the_language_of_the_server() {
    let unit = include_str!("../ansible/roles/spindown/templates/spindown.service");
    let socket = format!("spindown-carrier@{VERSION}.socket");
    assert_eq!(unit.matches("spindown-carrier@").count(), unit.matches(&socket).count(), "{unit}");
    assert!(unit.contains(&socket), "{unit}");
}
