//! What the rules log (NFLOG): the socket that the kernel writes it to, and what each packet says. Which packets are
//! logged is `rules`'.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
};

use futures::{StreamExt, stream, stream::BoxStream};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nflog::{ConfigCmd, ConfigMode, ConfigNla, PacketNla, Timeout, ULogMessage, config_request},
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::{
    io::Errno,
    net::sockopt,
    thread::{CapabilitySet, capabilities},
};

use crate::model::{Error, Knock, Result};

/// How much of each packet is asked for: the longest IP header, and TCP's without options.
const RANGE: u32 = 60 + 20;
/// What the kernel keeps for us until it is read: about two thousand packets. What comes then is lost.
const BUFFER: usize = 1 << 20;
/// Room for one message; one packet takes about 250 bytes.
const MESSAGE: usize = 16 * 1024;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The flags of TCP that matter.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What is logged to the group, from now on. The socket's own buffer is what bounds it; dropping the stream closes the
/// socket, and so frees the group.
pub(super) async fn listen(group: u16) -> Result<BoxStream<'static, Knock>> {
    let failed =
        |source: io::Error| Error::unavailable("the packet log of the kernel cannot be read").caused_by(source);
    let socket = open().map_err(failed)?;
    let request = config_request(
        NetfilterProtoFamily::Unspec,
        group,
        vec![
            ConfigCmd::Bind.into(),
            ConfigMode::new_packet(RANGE).into(),
            // Each packet at once. The kernel would gather a hundred of them, or for a second.
            ConfigNla::QThresh(1),
            Timeout::new(1).into(),
        ],
    );
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes).await.map_err(failed)?;
    match answer(&socket).await {
        Ok(()) => Ok(knocks(socket).boxed()),
        Err(source) => Err(Error::unavailable(advice(group, &source)).caused_by(source)),
    }
}

fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    // What does not fit is lost, and what comes later is not: the kernel would otherwise say so, and lose everything
    // until the last of what it keeps is read.
    socket.socket_ref().set_no_enobufs(true)?;
    // The usual limit does not hold for who may listen at all; whoever may not is told so by the kernel's answer.
    let _ = sockopt::set_socket_recv_buffer_size_force(socket.socket_ref(), BUFFER);
    Ok(socket)
}

/// What the kernel says to the request. Packets may come before it does.
async fn answer(socket: &TokioSocket) -> io::Result<()> {
    loop {
        for message in receive(socket).await? {
            if let NetlinkPayload::Error(error) = message.payload {
                return if error.code.is_none() { Ok(()) } else { Err(error.to_io()) };
            }
        }
    }
}

/// Why the kernel refuses, and what to do. It says the same to who may not listen and to who comes second.
fn advice(group: u16, source: &io::Error) -> String {
    let allowed = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    match Errno::from_io_error(source) {
        Some(Errno::PERM | Errno::BUSY) if allowed => format!(
            "another program listens to group {group} of the kernel's packet log (NFLOG): end it, or give \
             spindown.door.port, whose number the group has, another one"
        ),
        Some(Errno::PERM) => {
            "hearing what comes for frozen containers needs the capability NET_ADMIN: run Spindown as root or grant it"
                .to_owned()
        }
        _ => format!("the kernel cannot log packets to group {group}: it needs nfnetlink_log (modprobe nfnetlink_log)"),
    }
}

fn knocks(socket: TokioSocket) -> impl futures::Stream<Item = Knock> + Send {
    stream::unfold((socket, VecDeque::new()), |(socket, mut heard)| async move {
        loop {
            if let Some(knock) = heard.pop_front() {
                return Some((knock, (socket, heard)));
            }
            match receive(&socket).await {
                Ok(messages) => heard.extend(messages.iter().filter_map(packet).filter_map(knock)),
                // Some are lost, which is known to happen.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "what comes for frozen containers is heard no longer");
                    return None;
                }
            }
        }
    })
}

/// The next messages. One that cannot be read is left out.
async fn receive(socket: &TokioSocket) -> io::Result<Vec<NetlinkMessage<NetfilterMessage>>> {
    let mut bytes = Vec::with_capacity(MESSAGE);
    socket.recv(&mut bytes).await?;
    Ok(messages(&bytes))
}

fn messages(mut bytes: &[u8]) -> Vec<NetlinkMessage<NetfilterMessage>> {
    let mut messages = vec![];
    // The length of each, its header included, is what it begins with; each begins at a multiple of four.
    while let Some(length) = bytes.first_chunk().map(|first| u32::from_ne_bytes(*first) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| !message.is_empty()) else { break };
        match NetlinkMessage::deserialize(message) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::debug!(%error, "a message of the packet log cannot be read"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The packet in a message.
fn packet(message: &NetlinkMessage<NetfilterMessage>) -> Option<&[u8]> {
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::ULog(ULogMessage::Packet(attributes)),
        ..
    }) = &message.payload
    else {
        return None;
    };
    attributes.iter().find_map(|attribute| match attribute {
        PacketNla::Payload(packet) => Some(packet.as_slice()),
        _ => None,
    })
}

/// What an IPv4 packet tells, of which this is the beginning; `None` if it brings nothing: it confirms, ends or probes
/// a connection.
///
/// Probes that keep a connection alive carry no data with Linux. Windows sends one byte again that has been confirmed
/// long ago; only the receiving socket, which knows what it has, tells that from a key typed: the container then has
/// nothing unread ([`crate::model::Connection::unread`]).
fn knock(packet: impl AsRef<[u8]>) -> Option<Knock> {
    let packet = packet.as_ref();
    let number = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    // Later fragments have no ports. Whoever routes puts fragments together first.
    if first >> 4 != 4 || header < 20 || number(6)? & 0x1fff != 0 {
        return None;
    }
    // Segments that were put together on the way may be longer than the field can say, which is then zero.
    let length = match number(2)? {
        0 => usize::MAX,
        length => usize::from(length),
    };
    let (data, begins) = match *packet.get(9)? {
        TCP => {
            let (offset, flags) = (usize::from(packet.get(header + 12)? >> 4) * 4, *packet.get(header + 13)?);
            if offset < 20 || flags & RST != 0 {
                return None;
            }
            (length > header + offset, flags & (SYN | ACK) == SYN)
        }
        UDP => (length > header + 8, false),
        _ => return None,
    };
    let client = SocketAddr::from((address(12)?, number(header)?));
    (data || begins).then_some(Knock { client, address: address(16)?, port: number(header + 2)?, data })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);
    const CONTAINER: ([u8; 4], u16) = ([10, 9, 0, 2], 22);
    const FIN: u8 = 0x01;
    const PSH: u8 = 0x08;

    /// An IPv4 packet with so many words of header, and this in it.
    fn ip(words: u8, protocol: u8, inner: &[u8]) -> Vec<u8> {
        let header = usize::from(words) * 4;
        let mut packet = vec![0; header];
        packet[0] = 0x40 | words;
        packet[2..4].copy_from_slice(&u16::try_from(header + inner.len()).unwrap().to_be_bytes());
        packet[8..10].copy_from_slice(&[64, protocol]);
        packet[12..16].copy_from_slice(&CLIENT.0);
        packet[16..20].copy_from_slice(&CONTAINER.0);
        [packet, inner.to_vec()].concat()
    }

    fn ports() -> Vec<u8> {
        [CLIENT.1.to_be_bytes(), CONTAINER.1.to_be_bytes()].concat()
    }

    /// A segment with so many words of header, these flags, and so many bytes of data.
    fn tcp(words: u8, flags: u8, data: usize) -> Vec<u8> {
        let mut segment = ports();
        segment.resize(usize::from(words) * 4 + data, 0);
        segment[12..14].copy_from_slice(&[words << 4, flags]);
        segment
    }

    fn udp(data: usize) -> Vec<u8> {
        let mut datagram = ports();
        datagram.resize(8 + data, 0);
        datagram
    }

    fn fragment(field: u16, mut packet: Vec<u8>) -> Vec<u8> {
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet
    }

    fn with_length(length: u16, mut packet: Vec<u8>) -> Vec<u8> {
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn cut(length: usize, mut packet: Vec<u8>) -> Vec<u8> {
        packet.truncate(length);
        packet
    }

    #[test]
    fn what_brings_something_is_told_and_nothing_else() {
        let (begins, data) = (Some(false), Some(true));
        for (what, packet, expected) in [
            ("SYN", ip(5, TCP, &tcp(10, SYN, 0)), begins),
            ("SYN with ECN", ip(5, TCP, &tcp(10, SYN | 0xc0, 0)), begins),
            ("SYN with data", ip(5, TCP, &tcp(10, SYN, 5)), data),
            ("SYN and ACK", ip(5, TCP, &tcp(10, SYN | ACK, 0)), None),
            ("SYN and ACK with data", ip(5, TCP, &tcp(10, SYN | ACK, 1)), data),
            ("ACK", ip(5, TCP, &tcp(5, ACK, 0)), None),
            ("ACK with timestamps", ip(5, TCP, &tcp(8, ACK, 0)), None),
            ("ACK with all options", ip(15, TCP, &tcp(15, ACK, 0)), None),
            ("a key typed", ip(5, TCP, &tcp(8, ACK | PSH, 1)), data),
            ("a key typed, no timestamps", ip(5, TCP, &tcp(5, ACK | PSH, 1)), data),
            ("a key typed, IP options", ip(7, TCP, &tcp(8, ACK | PSH, 1)), data),
            ("IP options alone", ip(7, TCP, &tcp(8, ACK, 0)), None),
            ("FIN", ip(5, TCP, &tcp(8, FIN | ACK, 0)), None),
            ("FIN with data", ip(5, TCP, &tcp(8, FIN | ACK, 9)), data),
            ("RST", ip(5, TCP, &tcp(5, RST, 0)), None),
            ("RST with words", ip(5, TCP, &tcp(5, RST | ACK, 9)), None),
            ("no flags", ip(5, TCP, &tcp(5, 0, 0)), None),
            ("a header that is too short", ip(5, TCP, &tcp(4, ACK, 30)), None),
            ("UDP, empty", ip(5, UDP, &udp(0)), None),
            ("UDP", ip(5, UDP, &udp(1)), data),
            ("UDP, IP options", ip(15, UDP, &udp(1)), data),
            ("UDP, empty, IP options", ip(15, UDP, &udp(0)), None),
            ("ICMP", ip(5, 1, &udp(30)), None),
            ("a first fragment", fragment(0x2000, ip(5, UDP, &udp(30))), data),
            ("a later fragment", fragment(0x2001, ip(5, UDP, &udp(30))), None),
            ("the last fragment", fragment(0x0100, ip(5, TCP, &tcp(5, SYN, 30))), None),
            ("not to be fragmented", fragment(0x4000, ip(5, TCP, &tcp(8, ACK, 1))), data),
            ("longer than can be said", with_length(0, ip(5, TCP, &tcp(8, ACK, 30))), data),
            ("much of it not copied", cut(80, ip(5, TCP, &tcp(8, ACK, 1400))), data),
            ("padded", [ip(5, TCP, &tcp(5, ACK, 0)), vec![0; 6]].concat(), None),
            ("cut in TCP's header", cut(33, ip(5, TCP, &tcp(5, SYN, 0))), None),
            ("cut in the ports", cut(23, ip(5, UDP, &udp(9))), None),
            ("cut in IP's header", cut(19, ip(5, UDP, &udp(9))), None),
            ("IPv6", [vec![0x60], vec![0; 79]].concat(), None),
            ("a header that says less than it is", [vec![0x44], ip(5, UDP, &udp(9))[1..].to_vec()].concat(), None),
            ("nothing", vec![], None),
        ] {
            let knock = knock(&packet);
            assert_eq!(knock.map(|knock| knock.data), expected, "{what}");
            if let Some(knock) = knock {
                assert_eq!((knock.client, knock.address, knock.port), (CLIENT.into(), CONTAINER.0.into(), CONTAINER.1));
            }
        }
    }

    #[test]
    fn messages_are_read_as_far_as_they_go() {
        let one = |packet: &[u8]| {
            let inner = ULogMessage::Packet(vec![PacketNla::Mark(7), PacketNla::Payload(packet.to_vec())]);
            let header = netlink_packet_netfilter::NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 9);
            let mut message =
                NetlinkMessage::new(Default::default(), NetlinkPayload::from(NetfilterMessage::new(header, inner)));
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes
        };
        let heard = |bytes: &[u8]| messages(bytes).iter().filter_map(packet).filter_map(knock).count();
        let (syn, ack) = (one(&ip(5, TCP, &tcp(5, SYN, 0))), one(&ip(5, TCP, &tcp(5, ACK, 0))));
        assert_eq!(heard(&syn), 1);
        assert_eq!(heard(&[&syn[..], &ack, &syn].concat()), 2);
        assert_eq!(heard(&[&syn[..], &syn[..syn.len() - 4]].concat()), 1);
        assert_eq!(heard(&[&syn[..], &[0; 16]].concat()), 1);
        assert_eq!(heard(&[255; 40]), 0);
        assert_eq!(heard(&[]), 0);
    }

    proptest! {
        #[test]
        fn anything_can_be_asked(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = knock(&bytes);
            let _ = messages(&bytes);
        }

        #[test]
        fn what_begins_like_a_packet_can_be_asked(first in 0x40_u8..0x50, protocol in prop_oneof![Just(TCP), Just(UDP)],
            mut bytes in proptest::collection::vec(any::<u8>(), 10..100)) {
            (bytes[0], bytes[6], bytes[7], bytes[9]) = (first, 0, 0, protocol);
            if let Some(knock) = knock(&bytes) {
                prop_assert!(knock.client.is_ipv4() && bytes.len() >= 24);
            }
        }
    }
}
