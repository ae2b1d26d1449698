//! The carrier's process: takes connections from servers on a Unix socket and carries them until they have ended. It ends
//! itself when it carries none and no server is there.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IoSliceMut},
    ops::Bound,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use rustix::net::{SocketType, sockopt};
use tokio::{net::TcpStream, sync::watch};
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener, ancillary::OwnedAncillaryMessage};

use super::{
    copy::{Traffic, carry},
    message::{ANCILLARY, Answer, Carried, LONGEST, PAGE, Passage, Request},
};
use crate::{
    model::{Error, Result},
    socket::ShortPath,
};

/// How long a carrier that has nothing to do waits for a server: one may be on its way to being started again.
pub const REST: Duration = Duration::from_secs(10);
/// The most that is carried at once: each takes six descriptors.
const MOST: usize = 10_000;

/// What is being carried.
struct Load {
    /// The number of the last one. Numbers begin anywhere, so that those of two carriers are not taken for each other's.
    last: AtomicU64,
    passages: Mutex<BTreeMap<u64, (Passage, Arc<Traffic>)>>,
}

impl Load {
    fn passages(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (Passage, Arc<Traffic>)>> {
        // Whoever held it left nothing half done.
        self.passages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after(&self, after: u64) -> Vec<Carried> {
        let passages = self.passages();
        let told = passages.range((Bound::Excluded(after), Bound::Unbounded)).take(PAGE).map(
            |(number, (passage, traffic))| Carried {
                number: *number,
                passage: passage.clone(),
                received: traffic.received.load(Ordering::Relaxed),
                sent: traffic.sent.load(Ordering::Relaxed),
                ended: traffic.ended.load(Ordering::Relaxed),
            },
        );
        told.collect()
    }
}

/// Something that keeps the process from ending, counted: a server that is connected, or a connection that is carried.
struct Reason(Arc<watch::Sender<usize>>);

impl Reason {
    fn new(reasons: &Arc<watch::Sender<usize>>) -> Self {
        reasons.send_modify(|count| *count += 1);
        Self(Arc::clone(reasons))
    }
}

impl Drop for Reason {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Where a carrier listens.
pub struct Listening {
    listener: UnixSeqpacketListener,
    /// The name to take away at the end, and what it named; `None` if it is somebody else's.
    name: Option<(PathBuf, u64)>,
}

/// Listens at `socket`.
///
/// # Errors
/// `Conflict` if that cannot be, or another carrier listens there.
pub async fn listen(socket: &Path) -> Result<Listening> {
    let at = |error: io::Error| Error::conflict(format!("cannot listen at {}: {error}", socket.display()));
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = ShortPath::of(folder, socket.file_name().unwrap_or_default()).map_err(at)?;
    if UnixSeqpacket::connect(&*path).await.is_ok() {
        return Err(Error::conflict(format!("a carrier listens at {} already", socket.display())));
    }
    match fs::remove_file(&*path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let listener = UnixSeqpacketListener::bind(&*path).map_err(at)?;
    fs::set_permissions(&*path, fs::Permissions::from_mode(0o600)).map_err(at)?;
    let named = fs::metadata(&*path).map_err(at)?.ino();
    Ok(Listening { listener, name: Some((socket.to_owned(), named)) })
}

/// Listens on a socket that somebody else has made, and goes on listening on when this process has ended.
///
/// # Errors
/// `Invalid` if it is no such socket.
pub fn inherit(socket: OwnedFd) -> Result<Listening> {
    let no_socket =
        |e: io::Error| Error::invalid("standard input is no socket of the type SOCK_SEQPACKET").caused_by(e);
    let kind = sockopt::socket_type(&socket).map_err(|e| no_socket(e.into()))?;
    if kind != SocketType::SEQPACKET {
        return Err(no_socket(io::ErrorKind::InvalidInput.into()));
    }
    rustix::io::ioctl_fionbio(&socket, true).map_err(|e| no_socket(e.into()))?;
    Ok(Listening { listener: UnixSeqpacketListener::try_from(socket).map_err(no_socket)?, name: None })
}

/// Carries until there has been nothing to do for `rest`.
pub async fn run(Listening { mut listener, name }: Listening, rest: Duration) {
    let load = Arc::new(Load { last: AtomicU64::new(rand::random::<u32>().into()), passages: Mutex::default() });
    let reasons = Arc::new(watch::Sender::new(0_usize));
    let mut count = reasons.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = idle(&mut count, rest) => {
                // From here on a server finds nobody, and starts another. One may have come at the last moment.
                if let Some((name, named)) = &name
                    && fs::metadata(name).is_ok_and(|now| now.ino() == *named)
                {
                    let _ = fs::remove_file(name);
                }
                match listener.accept().now_or_never() {
                    Some(accepted) => accepted,
                    None => return,
                }
            }
        };
        match accepted {
            Ok(server) => drop(tokio::spawn(serve(server, Arc::clone(&load), Reason::new(&reasons)))),
            Err(error) => {
                tracing::warn!(%error, "a server could not be answered");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Returns when there has been no reason to go on for `rest`.
async fn idle(count: &mut watch::Receiver<usize>, rest: Duration) {
    loop {
        // The sender lives as long as the process.
        let _ = count.wait_for(|count| *count == 0).await;
        if tokio::time::timeout(rest, count.wait_for(|count| *count > 0)).await.is_err() {
            return;
        }
    }
}

/// Answers one server until it goes.
async fn serve(server: UnixSeqpacket, load: Arc<Load>, reason: Reason) {
    let mut packet = vec![0; LONGEST];
    loop {
        let mut ancillary = [0; ANCILLARY];
        let received = {
            let mut room = [IoSliceMut::new(&mut packet)];
            server.recv_vectored_with_ancillary(&mut room, &mut ancillary).await
        };
        let Ok((packet_read, messages)) = received else { return };
        let length = packet_read.bytes_read();
        if length == 0 {
            return;
        }
        let descriptors: Vec<OwnedFd> = messages
            .into_messages()
            .filter_map(|message| match message {
                OwnedAncillaryMessage::FileDescriptors(found) => Some(found.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        let answer = match serde_json::from_slice(&packet[..length]) {
            Ok(Request::Carry(passage)) => take(passage, descriptors, &load, &reason),
            Ok(Request::List { after }) => Answer::Carried(load.after(after)),
            Err(error) => Answer::Refused(format!("not understood: {error}")),
        };
        let Ok(answer) = serde_json::to_vec(&answer) else { return };
        if server.send(&answer).await.is_err() {
            return;
        }
    }
}

/// Begins to carry. What is refused is dropped, and so ends.
fn take(passage: Passage, descriptors: Vec<OwnedFd>, load: &Arc<Load>, reason: &Reason) -> Answer {
    let Ok([client, container]) = <[OwnedFd; 2]>::try_from(descriptors) else {
        return Answer::Refused("a connection comes with two descriptors".to_owned());
    };
    if load.passages().len() >= MOST {
        return Answer::Refused(format!("{MOST} connections are carried already"));
    }
    let (client, container) = match (stream(client), stream(container)) {
        (Ok(client), Ok(container)) => (client, container),
        (Err(error), _) | (_, Err(error)) => return Answer::Refused(error.to_string()),
    };
    let (load, reason) = (Arc::clone(load), Reason::new(&reason.0));
    let (number, traffic) = (load.last.fetch_add(1, Ordering::Relaxed) + 1, Arc::new(Traffic::default()));
    load.passages().insert(number, (passage, Arc::clone(&traffic)));
    tokio::spawn(async move {
        if let Err(error) = carry(&client, &container, &traffic).await {
            tracing::debug!(%error, "a carried connection broke off");
        }
        load.passages().remove(&number);
        drop(reason);
    });
    Answer::Taken(number)
}

fn stream(descriptor: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(descriptor);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
