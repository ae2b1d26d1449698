//! The server's end of the way to the carrier: finds the one that is there, or has one started.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};
use tokio_seqpacket::{UnixSeqpacket, ancillary::AncillaryMessageWriter};

use super::message::{Answer, Carried, LONGEST, PAGE, Passage, Request, VERSION};
use crate::model::{Error, Kind, Result};

/// How long the carrier may take for one answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long one that was started may take until it listens …
const STARTING: Duration = Duration::from_secs(5);
/// … and how often that is tried.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Starts a carrier that will listen at this path. It must not end with the server.
pub type Starter = Box<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// The carrier, as the server knows it.
pub struct Carrier {
    socket: PathBuf,
    starter: Starter,
    // Held over a question and its answer.
    link: Mutex<Option<UnixSeqpacket>>,
}

impl Carrier {
    /// The carrier that has its socket in this folder; `starter` is asked for one if there is none.
    pub fn new(folder: &Path, starter: Starter) -> Self {
        Self { socket: folder.join(format!("carrier-{VERSION}.sock")), starter, link: Mutex::default() }
    }

    /// Hands a connection over. Once this has succeeded it lives as long as its ends want, whatever becomes of the server;
    /// otherwise it is gone.
    ///
    /// # Errors
    /// `Unavailable` if there is no carrier and none can be started; `Exhausted` if it takes no more.
    pub async fn carry(&self, passage: Passage, client: OwnedFd, container: OwnedFd) -> Result<()> {
        match self.ask(&Request::Carry(passage), &[client.as_fd(), container.as_fd()]).await? {
            Answer::Taken => Ok(()),
            Answer::Refused(why) => Err(Error::new(Kind::Exhausted, "the carrier takes no connection").caused_by(why)),
            Answer::Carried(_) => Err(garbled()),
        }
    }

    /// All that it carries now.
    ///
    /// # Errors
    /// `Unavailable` if there is no carrier and none can be started.
    pub async fn carried(&self) -> Result<Vec<Carried>> {
        let mut all: Vec<Carried> = Vec::new();
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

    /// Asks, over the link there is. One that has broken is made anew, once: the carrier takes a connection only with the
    /// packet that brings it, so that a packet that was not sent can be sent again.
    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer> {
        let packet = serde_json::to_vec(request).map_err(|e| garbled().caused_by(e))?;
        let mut link = self.link.lock().await;
        if let Some(known) = link.take()
            && send(&known, &packet, descriptors).await.is_ok()
        {
            let answer = receive(&known).await?;
            *link = Some(known);
            return Ok(answer);
        }
        let fresh = self.connect().await?;
        send(&fresh, &packet, descriptors).await.map_err(gone)?;
        let answer = receive(&fresh).await?;
        *link = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<UnixSeqpacket> {
        if let Ok(link) = UnixSeqpacket::connect(&self.socket).await {
            return Ok(link);
        }
        (self.starter)(&self.socket)
            .map_err(|e| Error::unavailable("no carrier can be started for connections that wake").caused_by(e))?;
        let listening = async {
            loop {
                if let Ok(link) = UnixSeqpacket::connect(&self.socket).await {
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

async fn send(link: &UnixSeqpacket, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [0; 128];
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
