//! The server's end of the way to the carrier: finds the one that is there, or has one started.

use std::{
    fs::DirBuilder,
    io::{self, ErrorKind, IoSlice},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::timeout};
use tokio_seqpacket::{UnixSeqpacket, ancillary::AncillaryMessageWriter};

use super::{
    Carrier,
    message::{ANCILLARY, Answer, Carried, LONGEST, PAGE, Passage, Request, VERSION},
};
use crate::{
    model::{Error, Kind, Result},
    socket::ShortPath,
};

/// How long the carrier may take for one answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long one that was started may take until it listens …
const STARTING: Duration = Duration::from_secs(5);
/// … and how often that is tried.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Starts a carrier that will listen at this path, in a folder that is there. It must not end with the server.
pub type Starter = Box<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// The way to a carrier.
pub struct Link {
    folder: PathBuf,
    starter: Starter,
    // Held over a question and its answer.
    open: Mutex<Option<UnixSeqpacket>>,
}

#[async_trait]
impl Carrier for Link {
    async fn ready(&self) -> Result<()> {
        self.ask(&Request::List { after: u64::MAX }, &[]).await.map(drop)
    }

    async fn carry(&self, passage: Passage, client: OwnedFd, container: OwnedFd) -> Result<u64> {
        match self.ask(&Request::Carry(passage), &[client.as_fd(), container.as_fd()]).await? {
            Answer::Taken(number) => Ok(number),
            Answer::Refused(why) => Err(Error::new(Kind::Exhausted, "the carrier takes no connection").caused_by(why)),
            Answer::Carried(_) => Err(garbled()),
        }
    }

    async fn carried(&self) -> Result<Vec<Carried>> {
        let mut all: Vec<Carried> = Vec::new();
        if self.open.lock().await.is_none() && !self.is_there().await? {
            return Ok(all);
        }
        loop {
            let after = all.last().map_or(0, |last| last.number);
            let Answer::Carried(page) = self.ask(&Request::List { after }, &[]).await? else { return Err(garbled()) };
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }
}

impl Link {
    /// The way to the carrier that has its socket in this folder; `starter` is asked for one if there is none.
    pub fn new(folder: &Path, starter: Starter) -> Self {
        Self { folder: folder.to_owned(), starter, open: Mutex::default() }
    }

    /// Connects to whoever listens at the socket.
    async fn call(&self) -> io::Result<UnixSeqpacket> {
        UnixSeqpacket::connect(&*ShortPath::of(&self.folder, name())?).await
    }

    /// Whether somebody listens at the socket.
    async fn is_there(&self) -> Result<bool> {
        match self.call().await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
            Err(e) => Err(gone(e)),
        }
    }

    /// Asks, over the way that is open. One that has broken is made anew, once: the carrier takes a connection only with
    /// the packet that brings it, so that a packet that was not sent can be sent again.
    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer> {
        let packet = serde_json::to_vec(request).map_err(|e| garbled().caused_by(e))?;
        let mut open = self.open.lock().await;
        if let Some(known) = open.take()
            && send(&known, &packet, descriptors).await.is_ok()
        {
            let answer = receive(&known).await?;
            *open = Some(known);
            return Ok(answer);
        }
        let fresh = self.connect().await?;
        send(&fresh, &packet, descriptors).await.map_err(gone)?;
        let answer = receive(&fresh).await?;
        *open = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<UnixSeqpacket> {
        if let Ok(link) = self.call().await {
            return Ok(link);
        }
        // With Redis nobody else has made it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.and_then(|()| (self.starter)(&self.folder.join(name())))
            .map_err(|e| Error::unavailable("no carrier can be started for connections that wake").caused_by(e))?;
        let listening = async {
            loop {
                if let Ok(link) = self.call().await {
                    return link;
                }
                tokio::time::sleep(TRY_EVERY).await;
            }
        };
        timeout(STARTING, listening)
            .await
            .map_err(|_| Error::unavailable("the carrier was started and does not listen"))
    }
}

/// What the socket is called in its folder.
fn name() -> String {
    format!("carrier-{VERSION}.sock")
}

async fn send(link: &UnixSeqpacket, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [0; ANCILLARY];
    let mut ancillary = AncillaryMessageWriter::new(&mut room);
    if !descriptors.is_empty() {
        ancillary.add_fds(descriptors).map_err(|_| io::Error::other("no room for descriptors"))?;
    }
    let sent = timeout(DEADLINE, link.send_vectored_with_ancillary(&[IoSlice::new(packet)], &mut ancillary)).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
}

async fn receive(link: &UnixSeqpacket) -> Result<Answer> {
    let mut packet = vec![0; LONGEST];
    let length = timeout(DEADLINE, link.recv(&mut packet)).await.map_err(gone)?.map_err(gone)?.bytes_read();
    serde_json::from_slice(&packet[..length]).map_err(|e| garbled().caused_by(e))
}

fn gone(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("the carrier does not answer").caused_by(cause)
}

fn garbled() -> Error {
    Error::unavailable("the carrier answers what cannot be understood")
}
