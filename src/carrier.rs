//! Carrying: connections that came while their container slept are handed to a process of its own, which copies bytes
//! between the client and the container until both have ended. It outlives the server, and a restart or an upgrade of it
//! touches nobody.
//!
//! `message` is what the two say to each other, `link` the server's end, `process` the carrier's, `copy` the way of the
//! bytes. Who is let in, and when, is the door's affair: the carrier knows of containers no more than their ids.

pub mod copy;
pub mod link;
pub mod message;
pub mod process;

use std::os::fd::OwnedFd;

use async_trait::async_trait;

use self::message::{Carried, Passage};
use crate::model::{Error, Result};

/// Who carries connections.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Sees to it that there is one.
    ///
    /// # Errors
    /// `Unavailable` if there is none and none can be started.
    async fn ready(&self) -> Result<()>;

    /// Hands a connection over, and answers its number. Once this has succeeded it lives as long as its ends want,
    /// whatever becomes of the server; otherwise it is gone.
    ///
    /// # Errors
    /// `Unavailable` if there is no carrier and none can be started; `Exhausted` if it takes no more.
    async fn carry(&self, passage: Passage, client: OwnedFd, container: OwnedFd) -> Result<u64>;

    /// All that is carried now.
    ///
    /// # Errors
    /// `Unavailable` if there is a carrier that does not answer.
    async fn carried(&self) -> Result<Vec<Carried>>;
}

/// Where there is no door, and so nothing to carry.
#[derive(Clone, Copy, Debug)]
pub struct NoCarrier;

#[async_trait]
impl Carrier for NoCarrier {
    async fn ready(&self) -> Result<()> {
        Ok(())
    }

    async fn carry(&self, _passage: Passage, _client: OwnedFd, _container: OwnedFd) -> Result<u64> {
        Err(Error::unavailable("nothing is carried here"))
    }

    async fn carried(&self) -> Result<Vec<Carried>> {
        Ok(Vec::new())
    }
}
