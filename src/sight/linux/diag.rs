//! The kernel's words for asking after TCP sockets (`inet_diag`), as bytes: the question, and what it answers. Nothing
//! here talks to the kernel.
//!
//! The question is the older of the two kinds, `TCPDIAG_GETSOCK`: only that one can be asked about IPv4 and IPv6 at once,
//! and what an answer costs is the walk through the table of all sockets of the machine, not what is found.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// `TCPDIAG_GETSOCK`.
const GET_SOCKETS: u16 = 18;
/// `NLM_F_REQUEST`, and with `NLM_F_DUMP`.
const ONE: u16 = 1;
const ALL_OF_THEM: u16 = 0x301;
/// `NLM_F_DUMP_INTR`.
const INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR`, and below it `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// `INET_DIAG_INFO`: what TCP knows of a socket.
const INFO: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What comes before each message (`nlmsghdr`), before each attribute (`nlattr`), and what each socket has
/// (`inet_diag_msg`).
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const SOCKET: usize = 72;
/// How long the name of a socket is (`inet_diag_sockid`).
const NAME: usize = 48;

/// The length of the question.
pub(super) const QUESTION: usize = 76;
/// The most bytes that the kernel puts into one datagram.
pub(super) const DATAGRAM: usize = 32 << 10;

/// What the kernel calls a socket, never another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    family: u8,
    id: [u8; NAME],
}

/// One TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) name: Name,
    /// Whether data may come or go: the state is ESTABLISHED or CLOSE_WAIT.
    pub(super) connected: bool,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// For how long no data has moved.
    pub(super) quiet: Duration,
    /// How many bytes nobody has read.
    pub(super) unread: u32,
    /// What it is called in `/proc/<pid>/fd`.
    pub(super) inode: u32,
}

impl Socket {
    /// Whether it leads back into the namespace that it is in.
    pub(super) fn is_to_itself(&self) -> bool {
        self.remote.ip().is_loopback() || self.remote.ip() == self.local.ip()
    }
}

/// How far an answer has come with one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to come.
    More,
    /// That was all; `whole` unless the table changed beneath the walk.
    Done { whole: bool },
    /// The kernel does not answer, with this number of an error.
    Refused(i32),
    /// This is no answer.
    Garbled,
}

/// One message.
struct Message<'a> {
    kind: u16,
    flags: u16,
    /// Of the question that it answers.
    number: u32,
    body: &'a [u8],
}

/// The question after all sockets that are connected.
pub(super) fn question(number: u32) -> [u8; QUESTION] {
    // Of `inet_diag_req` all but two fields are zero, the family among them: whatever it is.
    asked(number, ALL_OF_THEM, &Name { family: 0, id: [0; NAME] })
}

/// The question after one socket. It costs a hundredth of the other.
pub(super) fn question_after(name: &Name, number: u32) -> [u8; QUESTION] {
    asked(number, ONE, name)
}

fn asked(number: u32, flags: u16, name: &Name) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &GET_SOCKETS.to_ne_bytes());
    put(6, &flags.to_ne_bytes());
    put(8, &number.to_ne_bytes());
    put(HEADER, &[name.family]);
    put(HEADER + 3, &[1 << (INFO - 1)]);
    put(HEADER + 4, &name.id);
    put(HEADER + 52, &((1u32 << ESTABLISHED) | (1 << CLOSE_WAIT)).to_ne_bytes());
    bytes
}

/// Reads one datagram of the answer to the question of this number.
pub(super) fn read(datagram: &[u8], number: u32, mut each: impl FnMut(Socket)) -> Progress {
    let mut rest = datagram;
    let mut whole = true;
    while !rest.is_empty() {
        let Some((message, after)) = message(rest) else { return Progress::Garbled };
        rest = after;
        if message.number != number {
            continue;
        }
        whole &= message.flags & INTERRUPTED == 0;
        let body = message.body;
        match message.kind {
            // Whether the walk went well is told as an error is.
            DONE | ERROR => match word(body, 0).map(u32::cast_signed) {
                Some(code @ ..0) => return Progress::Refused(code.saturating_neg()),
                _ => return Progress::Done { whole },
            },
            GET_SOCKETS => {
                if let Some(socket) = socket(body) {
                    each(socket);
                }
            }
            _ => {}
        }
    }
    Progress::More
}

/// The first message, and what comes after it.
fn message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = word(bytes, 0)? as usize;
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind: half(bytes, 4)?, flags: half(bytes, 6)?, number: word(bytes, 8)?, body }, after))
}

fn socket(body: &[u8]) -> Option<Socket> {
    let family = *body.first()?;
    let state = *body.get(1)?;
    let unread = word(body, 56)?;
    Some(Socket {
        name: Name { family, id: body.get(4..4 + NAME)?.try_into().ok()? },
        connected: [ESTABLISHED, CLOSE_WAIT].contains(&state),
        local: SocketAddr::new(address(family, body.get(8..24)?)?, port(body, 4)?),
        remote: SocketAddr::new(address(family, body.get(24..40)?)?, port(body, 6)?),
        // What cannot be told of may just have moved.
        quiet: attribute(body.get(SOCKET..)?, INFO).and_then(quiet).unwrap_or_default(),
        // The end of the other side's data is counted as a byte until it is read.
        unread: if state == CLOSE_WAIT { unread.saturating_sub(1) } else { unread },
        inode: word(body, 68)?,
    })
}

/// An address; IPv4 in the clothes of IPv6 is IPv4.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

/// What the first attribute of this kind holds.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE..length)?;
        if half(bytes, 2)? == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// From `tcp_info`, for how long no data has moved. What has arrived has moved. What was sent has if anybody confirms it:
/// to a client that has vanished the same data is sent again and again.
///
/// That somebody confirms is not asked of what arrives: of a client that only sends, the kernel notes no confirmations.
fn quiet(info: &[u8]) -> Option<Duration> {
    let (sent, received, confirmed) = (word(info, 44)?, word(info, 52)?, word(info, 56)?);
    Some(Duration::from_millis(received.min(sent.max(confirmed)).into()))
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBER: u32 = 7;

    fn framed(kind: u16, flags: u16, number: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    /// A socket as the kernel tells of it, whose data was sent, received and confirmed so many milliseconds ago.
    fn told(local: SocketAddr, remote: SocketAddr, state: u8, unread: u32, times: (u32, u32, u32)) -> Vec<u8> {
        let mut body = vec![0; SOCKET];
        body[0] = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        body[1] = state;
        for (at, address) in [(8, local), (24, remote)] {
            match address.ip() {
                IpAddr::V4(ip) => body[at..at + 4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => body[at..at + 16].copy_from_slice(&ip.octets()),
            }
        }
        body[4..6].copy_from_slice(&local.port().to_be_bytes());
        body[6..8].copy_from_slice(&remote.port().to_be_bytes());
        body[56..60].copy_from_slice(&unread.to_ne_bytes());
        body[68..72].copy_from_slice(&99u32.to_ne_bytes());
        // An attribute that is of no interest, with padding behind it.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        let mut info = [0; 60];
        for (at, time) in [(44, times.0), (52, times.1), (56, times.2)] {
            info[at..at + 4].copy_from_slice(&time.to_ne_bytes());
        }
        body.extend([64, 0, 2, 0]);
        body.extend(info);
        framed(GET_SOCKETS, 2, NUMBER, &body)
    }

    fn read_all(datagram: &[u8]) -> (Vec<Socket>, Progress) {
        let mut found = Vec::new();
        let progress = read(datagram, NUMBER, |socket| found.push(socket));
        (found, progress)
    }

    #[test]
    fn sockets_are_read_with_their_addresses_as_they_are_known_outside() {
        for (local, remote, expected) in [
            ("10.0.0.2:22", "10.0.0.1:40000", "10.0.0.1:40000"),
            ("[fd00::2]:22", "[fd00::1]:40000", "[fd00::1]:40000"),
            ("[::ffff:10.0.0.2]:22", "[::ffff:10.0.0.1]:40000", "10.0.0.1:40000"),
        ] {
            let bytes = told(local.parse().unwrap(), remote.parse().unwrap(), ESTABLISHED, 3, (0, 0, 0));
            let (found, progress) = read_all(&bytes);
            assert_eq!(progress, Progress::More);
            assert_eq!((found[0].remote, found[0].local.port()), (expected.parse().unwrap(), 22));
            assert_eq!((found[0].unread, found[0].inode, found.len()), (3, 99, 1));
        }
    }

    #[test]
    fn quiet_is_how_long_nothing_has_moved_that_somebody_confirms() {
        for (sent, received, confirmed, expected, why) in [
            (9_000, 9_000, 9_000, 9_000, "nothing happens"),
            (9_000, 9_000, 10, 9_000, "the other side only shows that it is alive"),
            (10, 9_000, 5, 10, "the other side reads"),
            (10, 9_000, 8_000, 8_000, "the other side has vanished, and is sent the same again and again"),
            (9_000, 10, 9_000, 10, "the other side only sends, which confirms nothing"),
            (10, 20, 20, 20, "an answer is on its way"),
        ] {
            let (at, from) = ("10.0.0.2:22".parse().unwrap(), "10.0.0.1:40000".parse().unwrap());
            let (found, _) = read_all(&told(at, from, ESTABLISHED, 0, (sent, received, confirmed)));
            assert_eq!(found[0].quiet, Duration::from_millis(expected), "{why}");
        }
    }

    #[test]
    fn one_is_asked_after_by_its_name() {
        let (at, from) = ("10.0.0.2:22".parse().unwrap(), "10.0.0.1:40000".parse().unwrap());
        let bytes = told(at, from, 6, 0, (0, 0, 0));
        let (found, _) = read_all(&bytes);
        assert!(!found[0].connected);
        let question = question_after(&found[0].name, NUMBER);
        assert_eq!(question[HEADER], AF_INET);
        assert_eq!(question[HEADER + 4..HEADER + 52], bytes[HEADER + 4..HEADER + 52]);
    }

    #[test]
    fn the_end_of_the_data_is_no_data() {
        let (at, from) = ("10.0.0.2:22".parse().unwrap(), "10.0.0.1:40000".parse().unwrap());
        for (state, counted, expected) in
            [(ESTABLISHED, 1, 1), (CLOSE_WAIT, 1, 0), (CLOSE_WAIT, 0, 0), (CLOSE_WAIT, 9, 8)]
        {
            let (found, _) = read_all(&told(at, from, state, counted, (0, 0, 0)));
            assert_eq!(found[0].unread, expected, "{state} {counted}");
        }
    }

    #[test]
    fn an_answer_ends_or_is_refused() {
        let done = framed(DONE, 2, NUMBER, &[0; 4]);
        assert_eq!(read_all(&done).1, Progress::Done { whole: true });
        assert_eq!(read_all(&framed(DONE, 2 | INTERRUPTED, NUMBER, &[0; 4])).1, Progress::Done { whole: false });
        assert_eq!(read_all(&framed(ERROR, 0, NUMBER, &(-16i32).to_ne_bytes())).1, Progress::Refused(16));
        assert_eq!(read_all(&framed(DONE, 2, NUMBER, &(-5i32).to_ne_bytes())).1, Progress::Refused(5));
        assert_eq!(read_all(&framed(DONE, 2, NUMBER + 1, &[0; 4])).1, Progress::More, "the answer to something else");
        assert_eq!(read_all(&[1, 2, 3]).1, Progress::Garbled);
        let several =
            [told("10.0.0.2:22".parse().unwrap(), "10.0.0.1:1".parse().unwrap(), 1, 0, (0, 0, 0)), done].concat();
        let (found, progress) = read_all(&several);
        assert_eq!((found.len(), progress), (1, Progress::Done { whole: true }));
    }

    #[test]
    fn a_connection_to_itself_is_known() {
        for (local, remote, expected) in [
            ("127.0.0.1:22", "127.0.0.1:40000", true),
            ("[::1]:22", "[::1]:40000", true),
            ("10.0.0.2:22", "10.0.0.2:40000", true),
            ("10.0.0.2:22", "10.0.0.1:40000", false),
        ] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let (found, _) = read_all(&told(local, remote, ESTABLISHED, 0, (0, 0, 0)));
            assert_eq!(found[0].is_to_itself(), expected, "{local} {remote}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), number in 0..3u32) {
            read(&bytes, number, |_| ());
        }

        #[test]
        fn no_cut_and_no_change_breaks_it(cut in 0..300usize, at in 0..200usize, byte: u8) {
            let mut bytes = told("10.0.0.2:22".parse().unwrap(), "[::1]:1".parse().unwrap(), 1, 0, (1, 2, 3));
            bytes.extend(framed(DONE, 0, NUMBER, &[0; 4]));
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            read_all(&bytes);
        }
    }
}
