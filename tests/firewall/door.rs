//! Ports that are asleep lead to the door: from wherever a client comes, with the port he meant, and nobody else's.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Ipv6Addr, SocketAddr, TcpListener},
    thread,
};

use rustix::net::sockopt;
use spindown::firewall::Firewall;

use super::yard::{Outside, Place, Yard, assert_open, host, perl, probe, run};

/// Says whom it reached.
const GREETED: &str = r#"
    use IO::Socket::IP; alarm 10;
    my $s = IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Timeout => 3) or do { print "refused\n"; exit };
    print scalar <$s>;
"#;

fn greeted(from: &Place, to: &str, port: u16) -> String {
    perl(from, GREETED, &[to, &port.to_string()])
}

/// Listens where the door does, and greets each with the port that he meant.
fn open_door(port: u16) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let meant = match stream.local_addr().unwrap() {
                SocketAddr::V6(six) if six.ip().to_ipv4_mapped().is_none() => {
                    sockopt::ipv6_original_dst(&stream).map(|address| address.port())
                }
                _ => sockopt::ip_original_dst(&stream).map(|address| address.port()),
            };
            // Whoever has gone is not waited for.
            let _ = writeln!(stream, "door {}", meant.unwrap());
        }
    });
}

#[tokio::test]
async fn ports_that_are_asleep_lead_to_the_door() {
    let yard = Yard::new();
    let (a, b) = (yard.a.port, yard.b.port);
    let outside = Outside::new(&yard);
    open_door(yard.door);
    let places = [
        (host(), "127.0.0.1".to_owned()),
        (host(), "::1".to_owned()),
        (host(), yard.network.gateway().to_string()),
        (host(), outside.host.to_string()),
        (outside.inside(), outside.host.to_string()),
    ];
    let all_greet = |port: u16, expected: &str| {
        for (from, to) in &places {
            assert_eq!(greeted(from, to, port), format!("{expected}\n"), "{from:?} {to}");
        }
    };
    yard.nft.ensure().await.unwrap();
    all_greet(a, "hello");
    yard.nft.divert(&BTreeSet::from([a])).await.unwrap();
    all_greet(a, &format!("door {a}"));
    all_greet(b, "hello");
    // Of UDP there is no waking.
    assert_open(&host(), &[format!("udp 127.0.0.1 {a}")]);
    yard.nft.divert(&BTreeSet::from([a, b])).await.unwrap();
    all_greet(b, &format!("door {b}"));
    yard.nft.divert(&BTreeSet::from([b])).await.unwrap();
    all_greet(a, "hello");
    all_greet(b, &format!("door {b}"));

    // Nobody gets there by himself, nor from a container.
    for (from, to) in &places {
        assert_eq!(greeted(from, to, yard.door), "refused\n", "{from:?} {to}");
    }
    let target = format!("tcp {} {b}", yard.network.gateway());
    assert_ne!(probe(&yard.a.inside(), std::slice::from_ref(&target))[&target], "open");
    let target = format!("tcp {} {}", yard.network.gateway(), yard.door);
    assert_ne!(probe(&yard.a.inside(), std::slice::from_ref(&target))[&target], "open");
    // What a container asks of the world is the world's, whatever its port is called.
    assert_eq!(greeted(&host(), &yard.b.ip.to_string(), 22), "hello\n");
}

#[tokio::test]
async fn whatever_is_done_to_the_sleeping_ports_is_noticed_and_put_back() {
    let yard = Yard::new();
    let (table, a) = (yard.block.instance(), yard.a.port);
    open_door(yard.door);
    yard.nft.ensure().await.unwrap();
    let asleep = BTreeSet::from([a]);
    yard.nft.divert(&asleep).await.unwrap();
    let door = format!("door {a}\n");
    for damage in [
        format!("flush set inet {table} asleep"),
        format!("delete table inet {table}"),
        format!("flush chain inet {table} local_asleep"),
    ] {
        run(&["nft", &damage]);
        assert_eq!(greeted(&host(), "127.0.0.1", a), "hello\n", "{damage}");
        assert!(yard.nft.ensure().await.unwrap(), "{damage}");
        assert_eq!(greeted(&host(), "127.0.0.1", a), door, "{damage}");
        assert!(!yard.nft.ensure().await.unwrap(), "{damage}");
    }
    run(&["nft", &format!("add element inet {table} asleep {{ {} }}", yard.b.port)]);
    assert!(yard.nft.ensure().await.unwrap());
    assert_eq!(greeted(&host(), "127.0.0.1", yard.b.port), "hello\n");

    // A change does not need the set to be as it was left.
    run(&["nft", &format!("flush set inet {table} asleep")]);
    yard.nft.divert(&BTreeSet::new()).await.unwrap();
    assert_eq!(greeted(&host(), "127.0.0.1", a), "hello\n");
    run(&["nft", &format!("delete table inet {table}")]);
    yard.nft.divert(&asleep).await.unwrap();
    assert_eq!(greeted(&host(), "127.0.0.1", a), door);
    assert!(!yard.nft.ensure().await.unwrap());
}
