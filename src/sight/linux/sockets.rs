//! The TCP sockets of one network namespace, asked of the kernel through a socket that was made in it.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::{Errno, pread},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
        sockopt::Timeout,
    },
};

use super::{
    diag::{self, DATAGRAM, Name, Progress, Socket},
    process::Process,
};
use crate::model::Error;

/// How long the kernel may take for one part of an answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How many looks in a row may rely on the kernel's count: at least so many, and less than twice as many.
const RELIED_ON: u32 = 12;
/// How many sockets are asked after one by one, at most: more are cheaper to find by a walk.
const ONE_BY_ONE: usize = 32;

/// The way to the sockets of one namespace.
///
/// To find the sockets of a namespace the kernel walks through those of the whole machine, which is dear. But it counts
/// the connected ones of each namespace. Where it counts as many as were known before, and all of these are still
/// connected, there can be no other.
pub(super) struct Sockets {
    netlink: OwnedFd,
    /// Where the kernel counts them, as long as that has been right.
    count: Option<OwnedFd>,
    /// Those of the last look.
    known: Vec<Name>,
    /// How many more looks may rely on the count …
    relied_on: u32,
    /// … and after a walk. Not the same for all, or all would be due for a walk at one look.
    period: u32,
    number: u32,
}

impl Sockets {
    /// The sockets of the namespace that this thread is in, which is that of the process.
    pub(super) fn of(process: &Process) -> io::Result<Self> {
        let netlink = netlink()?;
        let count = openat(process.folder(), c"net/snmp", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let relied_on = process.number() % RELIED_ON;
        Ok(Self { netlink, count, known: Vec::new(), relied_on, period: RELIED_ON + relied_on, number: 0 })
    }

    /// Those that are connected, into `found`; `surely` if none may be missed.
    pub(super) fn connected(
        &mut self,
        surely: bool,
        buffer: &mut [u8; DATAGRAM],
        found: &mut Vec<Socket>,
    ) -> io::Result<()> {
        let count = self.count(buffer);
        let as_known = !surely && count == Some(self.known.len()) && self.known.len() <= ONE_BY_ONE;
        if as_known && self.relied_on > 0 && self.one_by_one(buffer, found)? {
            self.relied_on -= 1;
            return Ok(());
        }
        // If the table is changed beneath a walk, the second time the answer is as good as it gets.
        if !self.walk(buffer, found)? {
            self.walk(buffer, found)?;
        }
        // Kernels before 6.10 count one too few for each connection that was closed while it was being made.
        if count.is_some_and(|count| count < found.len()) && self.count(buffer) == count {
            self.count = None;
        }
        self.relied_on = self.period;
        self.known.clear();
        self.known.extend(found.iter().map(|socket| socket.name));
        Ok(())
    }

    /// How many are connected, if that can be told.
    fn count(&self, buffer: &mut [u8]) -> Option<usize> {
        let length = pread(self.count.as_ref()?, &mut *buffer, 0).ok()?;
        connections_in(buffer.get(..length)?)
    }

    /// Asks after each that is known; answers whether all of them are still connected.
    fn one_by_one(&mut self, buffer: &mut [u8; DATAGRAM], found: &mut Vec<Socket>) -> io::Result<bool> {
        found.clear();
        if self.known.is_empty() {
            return Ok(true);
        }
        self.number = self.number.wrapping_add(1);
        let questions: Vec<u8> = self.known.iter().flat_map(|name| diag::question_after(name, self.number)).collect();
        send(&self.netlink, &questions, SendFlags::empty())?;
        // What is left of an answer that is not waited for is passed over the next time, by its number.
        while found.len() < self.known.len() {
            match self.receive(buffer, found)? {
                Progress::More => {}
                _ => return Ok(false),
            }
        }
        Ok(found.iter().all(|socket| socket.connected))
    }

    /// Asks for all of them; answers whether they were all there.
    fn walk(&mut self, buffer: &mut [u8; DATAGRAM], found: &mut Vec<Socket>) -> io::Result<bool> {
        found.clear();
        self.number = self.number.wrapping_add(1);
        send(&self.netlink, &diag::question(self.number), SendFlags::empty())?;
        loop {
            match self.receive(buffer, found)? {
                Progress::More => {}
                Progress::Done { whole } => return Ok(whole),
                Progress::Refused(code) => return Err(io::Error::from_raw_os_error(code)),
                Progress::Garbled => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn receive(&self, buffer: &mut [u8; DATAGRAM], found: &mut Vec<Socket>) -> io::Result<Progress> {
        let (_, length) = recv(&self.netlink, &mut buffer[..], RecvFlags::TRUNC)?;
        let datagram = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
        Ok(diag::read(datagram, self.number, |socket| found.push(socket)))
    }
}

/// Asks once, in the namespace that this thread is in; answers what the kernel lacks. Any other failure may be different
/// the next time.
pub(super) fn lacking(buffer: &mut [u8; DATAGRAM]) -> Option<Error> {
    let asked = netlink().and_then(|netlink| {
        let mut sockets = Sockets { netlink, count: None, known: Vec::new(), relied_on: 0, period: 0, number: 0 };
        sockets.walk(buffer, &mut Vec::new())
    });
    asked.err().filter(is_lacking).map(untold)
}

/// What it means that the kernel does not answer.
pub(super) fn untold(cause: io::Error) -> Error {
    let message = if is_lacking(&cause) {
        "the kernel does not tell which connections are open: it needs inet_diag and tcp_diag (modprobe tcp_diag)"
    } else {
        "the kernel does not tell which connections of the container are open"
    };
    Error::unavailable(message).caused_by(cause)
}

/// Whether the kernel has nobody to answer.
fn is_lacking(cause: &io::Error) -> bool {
    let answers = [Errno::NOENT, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT];
    answers.iter().any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()))
}

/// The way to ask.
fn netlink() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    sockopt::set_socket_timeout(&netlink, Timeout::Recv, Some(DEADLINE))?;
    Ok(netlink)
}

/// How many connections there are, by `/proc/<pid>/net/snmp`: a line of names, and one of figures. The name stands for
/// those in the states ESTABLISHED and CLOSE_WAIT, in IPv4 and IPv6.
fn connections_in(snmp: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(snmp).ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let at = lines.next()?.split(' ').position(|name| name == "CurrEstab")?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn a_kernel_that_has_nobody_to_answer_is_no_container_that_has_gone() {
        for (errno, lacking) in [
            (Errno::NOENT, true),
            (Errno::OPNOTSUPP, true),
            (Errno::PROTONOSUPPORT, true),
            (Errno::BUSY, false),
            (Errno::AGAIN, false),
        ] {
            let error = untold(errno.into());
            assert_eq!((error.kind(), error.message().contains("modprobe")), (Kind::Unavailable, lacking), "{errno}");
        }
        assert!(lacking(&mut [0; DATAGRAM]).is_none(), "this one answers");
    }

    #[test]
    fn connections_are_counted_by_name() {
        let snmp =
            "Ip: Forwarding CurrEstab\nIp: 1 9\nTcp: RtoMin CurrEstab InSegs\nTcp: 200 3 94\nUdp: CurrEstab\nUdp: 7\n";
        assert_eq!(connections_in(snmp.as_bytes()), Some(3));
        for odd in
            ["", "Tcp: RtoMin\nTcp: 200\n", "Tcp: CurrEstab\n", "Tcp: CurrEstab\nTcp: x\n", "Tcp: CurrEstab\nTcp: \n"]
        {
            assert_eq!(connections_in(odd.as_bytes()), None, "{odd:?}");
        }
        assert_eq!(connections_in(&[0xff, 0xfe]), None);
    }
}
