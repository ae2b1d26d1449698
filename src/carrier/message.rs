//! What server and carrier say to each other: one JSON text a packet, over a Unix socket that keeps packets apart. The
//! two descriptors of a connection travel with the packet that tells of it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The version of this language, which is part of the socket's name: a server that speaks another starts a carrier of its
/// own, and the old one goes on until its connections have ended.
pub const VERSION: u32 = 1;
/// The longest packet, in bytes: far below what the kernel takes (`net.core.wmem_default`).
pub const LONGEST: usize = 64 << 10;
/// Room in bytes for two descriptors beside a packet, and to spare.
pub const ANCILLARY: usize = 128;
/// How many connections are told of in one answer.
pub const PAGE: usize = 200;

/// What a server asks of a carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To carry a connection: the client's descriptor and the container's come with it.
    Carry(Passage),
    /// To tell which it carries, beginning after the one of this number.
    List {
        /// 0 for the first page.
        after: u64,
    },
}

/// What a carrier answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is carried from now on, under this number.
    Taken(u64),
    /// It is not, and why.
    Refused(String),
    /// Which it carries, by number; at most [`PAGE`] of them, and fewer only if these are the last.
    Carried(Vec<Carried>),
}

/// One connection, from whom to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The container's id.
    pub container: String,
    /// The host's port that the client connected to.
    pub port: u16,
    /// Where the client is.
    pub client: SocketAddr,
    /// When it was handed over.
    #[serde(with = "time::serde::timestamp")]
    pub since: OffsetDateTime,
}

/// A connection that is being carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Its number: rising, and of one carrier.
    pub number: u64,
    /// From whom to what.
    pub passage: Passage,
    /// The bytes that came from the client so far.
    pub received: u64,
    /// The bytes that went to the client so far.
    pub sent: u64,
    /// Whether the container has said all that it will.
    pub ended: bool,
}
