//! The way of the bytes: from socket to socket through a pipe of the kernel's, never through this process.

use std::{
    io,
    os::fd::OwnedFd,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use rustix::{
    net::{Shutdown, shutdown, sockopt},
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream, time::timeout};

/// The most that one turn moves, in bytes: what a pipe holds unless it is asked for more.
const TURN: usize = 64 << 10;
/// After how much silence a peer is asked whether it is still there, and how often then. Only one that answers none of the
/// kernel's nine questions is given up: who merely does not read may take as long as he likes. With something on its way
/// to him the kernel's own limit counts (`net.ipv4.tcp_retries2`, a quarter of an hour unless set).
const ALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long a client may go on talking to a container that has said all that it will. One that never hangs up, as a pool
/// of connections may, would hold a place for ever.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(3_600);

/// How many bytes have gone which way.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client.
    pub received: AtomicU64,
    /// To the client.
    pub sent: AtomicU64,
    /// Whether the container has said all that it will.
    pub ended: AtomicBool,
}

/// Sees to it that a socket ends abruptly however this process ends: what was not delivered must never look like the
/// whole. [`carry`] takes that back once everything has been.
///
/// # Errors
/// What the kernel says.
pub fn end_abruptly(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Copies both ways until both have ended. Whoever ends his half first may go on listening.
///
/// # Errors
/// If either side breaks off: both sockets then have to be dropped, and end abruptly.
pub async fn carry(client: &TcpStream, container: &TcpStream, traffic: &Traffic) -> io::Result<()> {
    for socket in [client, container] {
        end_abruptly(socket)?;
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, ALIVE_AFTER)?;
        sockopt::set_tcp_keepintvl(socket, ALIVE_AFTER)?;
    }
    let mut forth = pin!(one_way(client, container, &traffic.received));
    let mut back = pin!(one_way(container, client, &traffic.sent));
    tokio::select! {
        ended = &mut forth => {
            ended?;
            back.await?;
        }
        ended = &mut back => {
            ended?;
            traffic.ended.store(true, Ordering::Relaxed);
            timeout(HANGS_UP_WITHIN, forth).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }
    for socket in [client, container] {
        sockopt::set_socket_linger(socket, None)?;
    }
    Ok(())
}

/// Copies until `from` has said that there is no more, and tells `to` so.
async fn one_way(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    loop {
        // The pipe is empty here, so that it is never the pipe that makes this wait.
        let mut held = from.async_io(Interest::READABLE, || into_pipe(from, &inlet)).await?;
        if held == 0 {
            break;
        }
        moved.fetch_add(held as u64, Ordering::Relaxed);
        while held > 0 {
            held -= to.async_io(Interest::WRITABLE, || out_of_pipe(&outlet, to, held)).await?;
        }
    }
    Ok(shutdown(to, Shutdown::Write)?)
}

fn into_pipe(from: &TcpStream, inlet: &OwnedFd) -> io::Result<usize> {
    Ok(splice(from, None, inlet, None, TURN, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

fn out_of_pipe(outlet: &OwnedFd, to: &TcpStream, length: usize) -> io::Result<usize> {
    match splice(outlet, None, to, None, length, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)? {
        // The pipe is not empty, and its other end is open.
        0 => Err(io::ErrorKind::WriteZero.into()),
        moved => Ok(moved),
    }
}
