//! What comes for frozen containers is told: what begins a connection and what carries data, from wherever it comes,
//! and nothing else. The kernel's own log (NFLOG) is what tells it.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::BoxStream};
use spindown::{
    firewall::{Firewall, nft::Nft, rules::Rules},
    model::{Kind, Knock},
};
use tokio::time::timeout;

use super::yard::{Outside, Place, Yard, assert_open, host, perl, probe, run};

/// Within what something is told, and after what it is not told any more.
const SOON: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_millis(400);

/// Connects, says its own address, and does what it is told, line by line.
const CLIENT: &str = r#"
    use IO::Socket::INET; use Socket; $| = 1; alarm 100;
    my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Proto => $ARGV[2]) or die "connect: $!";
    print $s->sockhost, ':', $s->sockport, "\n";
    while (<STDIN>) {
        if (/^send (\d+)/) { $s->send('x' x $1) }
        if (/^read (\d+)/) { my $got = ''; while (length $got < $1) { sysread $s, $got, $1, length $got or die } }
        if (/^alive/) { $s->sockopt(SO_KEEPALIVE, 1); setsockopt($s, 6, $_, 1) or die for 4, 5 }
        if (/^end/) { shutdown $s, 1 }
        if (/^reset/) { setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)); close $s }
        print "done\n";
    }
"#;

/// Sends what `ping` sends.
const ECHO_REQUEST: &str = r#"
    use Socket; socket(my $s, PF_INET, SOCK_RAW, 1) or die;
    send($s, pack('CCnnn', 8, 0, 0xf7ff, 0, 0), 0, pack_sockaddr_in(0, inet_aton($ARGV[0]))) or die;
"#;

/// A client that obeys.
struct Client {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its own end.
    address: SocketAddr,
}

impl Client {
    fn connect(from: &Place, to: &str, port: u16, kind: &str) -> Self {
        let words = [from.clone(), ["perl", "-e", CLIENT, "--", to, &port.to_string(), kind].map(str::to_owned).into()];
        let words = words.concat();
        let mut child =
            Command::new(&words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut address = String::new();
        answers.read_line(&mut address).unwrap();
        Self { child, orders, answers, address: address.trim().parse().unwrap() }
    }

    fn tcp(from: &Place, to: impl ToString, port: u16) -> Self {
        Self::connect(from, &to.to_string(), port, "tcp")
    }

    fn udp(from: &Place, to: impl ToString, port: u16) -> Self {
        Self::connect(from, &to.to_string(), port, "udp")
    }

    fn does(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{order}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is told.
struct Ear(BoxStream<'static, Knock>);

impl Ear {
    async fn of(nft: &Nft) -> Self {
        Self(nft.knocks().await.unwrap())
    }

    /// The next knock.
    async fn next(&mut self) -> Option<Knock> {
        timeout(SOON, self.0.next()).await.ok().map(|knock| knock.expect("the stream ended"))
    }

    /// All until it is quiet.
    async fn rest(&mut self) -> Vec<Knock> {
        let mut all = vec![];
        while let Ok(knock) = timeout(QUIET, self.0.next()).await {
            all.push(knock.expect("the stream ended"));
        }
        all
    }

    #[track_caller]
    fn silent(all: &[Knock]) {
        assert!(all.is_empty(), "{all:?}");
    }
}

fn just(address: Ipv4Addr) -> BTreeSet<Ipv4Addr> {
    BTreeSet::from([address])
}

/// The firewall in place, with this container watched.
async fn watched(yard: &Yard, address: Ipv4Addr) -> Ear {
    yard.nft.ensure().await.unwrap();
    yard.nft.watch(&just(address)).await.unwrap();
    Ear::of(&yard.nft).await
}

#[tokio::test]
async fn whoever_comes_from_wherever_is_told() {
    let yard = Yard::new();
    let a = &yard.a;
    let outside = Outside::new(&yard);
    let mut ear = watched(&yard, a.ip).await;
    let gateway = yard.network.gateway();
    for (from, to, port, seen) in [
        (outside.inside(), outside.host, a.port, Some(outside.ip)),
        (outside.inside(), gateway, a.port, Some(outside.ip)),
        // Through the engine's proxy, which comes from the gateway and from a port of its own.
        (host(), Ipv4Addr::LOCALHOST, a.port, None),
        (host(), gateway, a.port, Some(gateway)),
        (host(), outside.host, a.port, Some(outside.host)),
        (host(), a.ip, 22, Some(gateway)),
    ] {
        let what = format!("{from:?} to {to}");
        let mut client = Client::tcp(&from, to, port);
        let begins = ear.next().await.expect(&what);
        match seen {
            Some(seen) => assert_eq!(begins.client, SocketAddr::from((seen, client.address.port())), "{what}"),
            None => assert_eq!(begins.client.ip(), gateway, "{what}"),
        }
        assert_eq!((begins.address, begins.port, begins.data), (a.ip, 22, false), "{what}");
        // The greeting, and that it came.
        client.does("read 6");
        Ear::silent(&ear.rest().await);
        client.does("send 1");
        assert_eq!(ear.next().await, Some(Knock { data: true, ..begins }), "{what}");
        client.does("read 1");
        client.does("end");
        Ear::silent(&ear.rest().await);

        let mut client = Client::udp(&from, to, port);
        client.does("send 1");
        let datagram = ear.next().await.expect(&what);
        if let Some(seen) = seen {
            assert_eq!(datagram.client, SocketAddr::from((seen, client.address.port())), "{what}");
        }
        assert_eq!((datagram.address, datagram.port, datagram.data), (a.ip, 22, true), "{what}");
    }
    // Nobody else's.
    yard.nft.watch(&just(yard.b.ip)).await.unwrap();
    Client::tcp(&outside.inside(), outside.host, a.port).does("send 9");
    Ear::silent(&ear.rest().await);
}

#[tokio::test]
async fn what_brings_nothing_is_not_told() {
    let yard = Yard::new();
    let a = &yard.a;
    let outside = Outside::new(&yard);
    let mut ear = watched(&yard, a.ip).await;
    // What there was to tell is counted beside, and so is what the rules let through to be looked at. That table
    // goes with `outside`.
    let (table, count) = (yard.block.instance(), outside.link.clone());
    let to_a = format!("type filter hook postrouting priority 1; ip daddr {} counter", a.ip);
    run(&["nft", &format!("table ip {count} {{ chain c {{ {to_a}; }}; }}")]);
    run(&["nft", &format!("add rule inet {table} to_frozen ip daddr {} counter", a.ip)]);
    let packets = |chain: &[&str]| {
        let listing = run(&[&["nft", "list", "chain"], chain].concat());
        let (_, rest) = listing.split_once("packets ").unwrap();
        rest.split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    let counted = || packets(&["ip", &count, "c"]);
    let logged = || packets(&["inet", &table, "to_frozen"]);
    for (from, to, port) in [(outside.inside(), outside.host, a.port), (host(), a.ip, 22)] {
        let mut client = Client::tcp(&from, to, port);
        client.does("read 6");
        assert_eq!(ear.rest().await.len(), 1);
        let before = counted();
        client.does("send 70000");
        client.does("read 70000");
        let (told, passed) = (ear.rest().await, counted() - before);
        assert!(told.iter().all(|knock| knock.data) && !told.is_empty(), "{told:?}");
        assert!(told.len() < passed as usize, "{} of {passed}", told.len());
        eprintln!("{} packets of {passed} told, there and back", told.len());
        let mut quiet = async |ear: &mut Ear, order: &str, wait: u64, least: u32| {
            let (before, none) = (counted(), logged());
            client.does(order);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Ear::silent(&ear.rest().await);
            let passed = counted() - before;
            assert!(passed >= least, "{order}: {passed} packets");
            assert_eq!(logged(), none, "{order}");
            eprintln!("{order}: {passed} packets went by untold");
        };
        // What the client answers when the container's kernel asks whether he is there, and when he asks.
        quiet(&mut ear, "read 0", 3000, 2).await;
        quiet(&mut ear, "alive", 3000, 2).await;
        quiet(&mut ear, "end", 0, 1).await;
        let mut client = Client::tcp(&from, to, port);
        client.does("read 6");
        assert_eq!(ear.rest().await.len(), 1);
        let (before, none) = (counted(), logged());
        client.does("reset");
        Client::udp(&from, to, port).does("send 0");
        perl(&host(), ECHO_REQUEST, &[&a.ip.to_string()]);
        Ear::silent(&ear.rest().await);
        assert!(counted() >= before + 3);
        assert_eq!(logged(), none);
    }
}

/// Sends segments from no connection: flags, words of TCP's header, bytes of data, words of IP's options.
const FORGED: &str = r#"
    use Socket; socket(my $s, PF_INET, SOCK_RAW, 255) or die; my $host = inet_aton(shift);
    for (@ARGV) {
        my ($flags, $words, $data, $options) = split '/';
        my $tcp = pack('nnNNCCnnn', 40000, 22, 1, 1, $words << 4, $flags, 1000, 0, 0);
        $tcp .= "\x01" x (4 * ($words - 5)) . 'x' x $data;
        my $ip = pack('CCnnnCCna4a4', 0x45 + $options, 0, 0, 0, 0, 64, 6, 0, "\0" x 4, $host) . "\x01" x (4 * $options);
        send($s, $ip . $tcp, 0, pack_sockaddr_in(0, $host)) or die;
    }
"#;

#[tokio::test]
async fn each_segment_is_told_once_if_at_all() {
    let yard = Yard::new();
    let (table, a) = (yard.block.instance(), &yard.a);
    let mut ear = watched(&yard, a.ip).await;
    run(&["nft", &format!("add rule inet {table} to_frozen ip daddr {} counter", a.ip)]);
    let send = |segments: &[String]| {
        let to = a.ip.to_string();
        let arguments: Vec<_> = std::iter::once(&to).chain(segments).map(String::as_str).collect();
        perl(&host(), FORGED, &arguments);
    };
    let each = |flags: u8, data: u8, options: u8| {
        (5..=15).map(|words| format!("{flags}/{words}/{data}/{options}")).collect::<Vec<_>>()
    };
    let (begins, confirms, resets) = (0x02, 0x10, 0x04);
    // With no options of IP, the kernel itself keeps them to itself.
    send(&each(confirms, 0, 0));
    send(&each(resets, 0, 0));
    Ear::silent(&ear.rest().await);
    let chain = run(&["nft", "list", "chain", "inet", &table, "to_frozen"]);
    assert!(chain.contains("counter packets 0 "), "{chain}");
    send(&each(confirms, 0, 3));
    Ear::silent(&ear.rest().await);
    for (flags, data, options, expected) in [
        (confirms, 1, 0, true),
        (confirms, 1, 3, true),
        (begins, 0, 0, false),
        (begins, 0, 3, false),
        (begins, 9, 0, true),
    ] {
        send(&each(flags, data, options));
        let told: Vec<_> = ear.rest().await.iter().map(|knock| knock.data).collect();
        assert_eq!(told, [expected; 11], "{flags} {data} {options}");
    }
}

#[tokio::test]
async fn what_flows_beside_is_not_told() {
    let yard = Yard::new();
    let outside = Outside::new(&yard);
    let mut ear = watched(&yard, yard.a.ip).await;
    let pump = r#"
        use IO::Socket::INET; alarm 20; my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die;
        if (!fork) { while (sysread $s, my $b, 65536) {} exit }
        my ($end, $sent) = (time + 3, 0); my $x = 'x' x 65536;
        while (time < $end) { $sent += syswrite $s, $x } print "$sent\n"; shutdown $s, 2; wait;
    "#;
    let (from, to, port) = (outside.inside(), outside.host.to_string(), yard.b.port.to_string());
    let pump = thread::spawn(move || perl(&from, pump, &[&to, &port]));
    let mut told = vec![];
    while !pump.is_finished() {
        told.extend(ear.rest().await);
    }
    let sent: u64 = pump.join().unwrap().trim().parse().unwrap();
    eprintln!("{} MB went by", sent / 1_000_000);
    Ear::silent(&told);
    assert!(sent > 10_000_000, "{sent}");
    let _client = Client::tcp(&outside.inside(), outside.host, yard.a.port);
    assert!(ear.next().await.is_some());
}

#[tokio::test]
async fn what_comes_for_a_container_that_is_really_frozen_is_told_and_kept() {
    let yard = Yard::new();
    let a = &yard.a;
    let outside = Outside::new(&yard);
    let mut typist = Client::tcp(&outside.inside(), outside.host, a.port);
    typist.does("read 6");
    run(&["docker", "pause", &a.id]);
    let mut ear = watched(&yard, a.ip).await;

    typist.does("send 1");
    let key = ear.next().await.unwrap();
    assert_eq!((key.client, key.data), (typist.address, true));
    // The kernel takes both for it.
    let mut newcomer = Client::tcp(&outside.inside(), outside.host, a.port);
    let begins = ear.next().await.unwrap();
    assert_eq!((begins.client, begins.data), (newcomer.address, false));
    newcomer.does("send 5");
    assert_eq!(ear.next().await, Some(Knock { data: true, ..begins }));
    Ear::silent(&ear.rest().await);

    run(&["docker", "unpause", &a.id]);
    yard.nft.watch(&BTreeSet::new()).await.unwrap();
    newcomer.does("read 11");
    typist.does("read 1");
    newcomer.does("send 1");
    newcomer.does("read 1");
    Ear::silent(&ear.rest().await);
}

#[tokio::test]
async fn whatever_is_done_to_the_frozen_is_noticed_and_put_back() {
    let yard = Yard::new();
    let (table, a, b) = (yard.block.instance(), &yard.a, &yard.b);
    let mut ear = watched(&yard, a.ip).await;
    // From the host, as nothing else is needed here.
    let told = async |ear: &mut Ear, ip: Ipv4Addr| {
        assert_open(&host(), &[format!("tcp {ip} 22")]);
        !ear.rest().await.is_empty()
    };
    assert!(told(&mut ear, a.ip).await);
    for damage in [
        format!("flush set inet {table} frozen"),
        format!("delete table inet {table}"),
        format!("flush chain inet {table} to_frozen"),
        format!("flush chain inet {table} knock"),
    ] {
        run(&["nft", &damage]);
        assert!(!told(&mut ear, a.ip).await, "{damage}");
        assert!(yard.nft.ensure().await.unwrap(), "{damage}");
        assert!(told(&mut ear, a.ip).await, "{damage}");
        assert!(!yard.nft.ensure().await.unwrap(), "{damage}");
    }
    run(&["nft", &format!("add element inet {table} frozen {{ {} }}", b.ip)]);
    assert!(yard.nft.ensure().await.unwrap());
    assert!(!told(&mut ear, b.ip).await);

    // The other set is nothing to it.
    yard.nft.divert(&BTreeSet::from([b.port])).await.unwrap();
    assert!(told(&mut ear, a.ip).await && !yard.nft.ensure().await.unwrap());
    yard.nft.divert(&BTreeSet::new()).await.unwrap();

    // A change does not need the set to be as it was left.
    run(&["nft", &format!("flush set inet {table} frozen")]);
    yard.nft.watch(&just(b.ip)).await.unwrap();
    assert!(told(&mut ear, b.ip).await && !told(&mut ear, a.ip).await);
    run(&["nft", &format!("delete table inet {table}")]);
    yard.nft.watch(&BTreeSet::from([a.ip, b.ip])).await.unwrap();
    assert!(told(&mut ear, b.ip).await && told(&mut ear, a.ip).await);
    assert!(!yard.nft.ensure().await.unwrap());
    yard.nft.watch(&BTreeSet::new()).await.unwrap();
    assert!(!told(&mut ear, b.ip).await && !told(&mut ear, a.ip).await);
    assert!(!yard.nft.ensure().await.unwrap());
}

#[tokio::test]
async fn one_at_a_time_may_listen() {
    let yard = Yard::new();
    let first = watched(&yard, yard.a.ip).await;
    let refused = yard.nft.knocks().await.err().unwrap();
    assert_eq!(refused.kind(), Kind::Unavailable);
    let group = format!("another program listens to group {}", yard.door);
    assert!(refused.message().contains(&group) && refused.message().contains("spindown.door.port"), "{refused}");
    drop(first);
    let mut second = Ear::of(&yard.nft).await;
    assert_open(&host(), &[format!("tcp {} 22", yard.a.ip)]);
    assert!(second.next().await.is_some());
}

#[tokio::test]
async fn a_knock_is_told_at_once() {
    let yard = Yard::new();
    let mut ear = watched(&yard, yard.a.ip).await;
    let mut stream = TcpStream::connect((yard.a.ip, 22)).unwrap();
    stream.set_nodelay(true).unwrap();
    assert!(!ear.next().await.unwrap().data);
    let mut times = vec![];
    for _ in 0..50 {
        let began = Instant::now();
        stream.write_all(b"x").unwrap();
        assert!(ear.next().await.unwrap().data);
        times.push(began.elapsed());
        stream.read_exact(&mut [0]).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times.sort();
    eprintln!("told after: median {:?}, worst {:?}", times[25], times[49]);
}

/// Sends so many datagrams, or begins so many connections, as fast as it can.
const FLOOD: &str = r#"
    use Socket; use Fcntl; my ($host, $port, $kind, $count) = @ARGV; my $to = pack_sockaddr_in($port, inet_aton($host));
    socket(my $u, PF_INET, SOCK_DGRAM, 0);
    for (1..$count) {
        if ($kind eq 'udp') { send($u, 'x', 0, $to); next }
        socket(my $s, PF_INET, SOCK_STREAM, 0); fcntl($s, F_SETFL, O_NONBLOCK); connect($s, $to); close $s;
    }
"#;

#[tokio::test]
async fn a_flood_hides_nobody_elses_data() {
    let yard = Yard::new();
    let (a, b) = (&yard.a, &yard.b);
    let outside = Outside::new(&yard);
    yard.nft.ensure().await.unwrap();
    yard.nft.watch(&BTreeSet::from([a.ip, b.ip])).await.unwrap();
    let mut ear = Ear::of(&yard.nft).await;
    let (to, port) = (outside.host.to_string(), a.port.to_string());
    for (kind, count) in [("tcp", "2000"), ("udp", "20000")] {
        let mut honest = Client::tcp(&host(), a.ip, 22);
        honest.does("read 6");
        ear.rest().await;
        let began = Instant::now();
        perl(&outside.inside(), FLOOD, &[&to, &port, kind, count]);
        let most = 200 + 100 * (began.elapsed().as_secs() as usize + 1);
        // The other container's beginnings are its own.
        let beside = Client::tcp(&outside.inside(), outside.host, b.port);
        honest.does("send 1");
        let told = ear.rest().await;
        let flood = told.iter().filter(|knock| knock.address == a.ip && knock.client.ip() == outside.ip).count();
        eprintln!("{kind}: {flood} of {count} told, in {:?}", began.elapsed());
        assert!((100..=most).contains(&flood), "{flood} of {most}");
        assert!(told.iter().any(|knock| knock.data && knock.client == honest.address));
        assert!(told.iter().any(|knock| knock.address == b.ip && knock.client == beside.address));
    }
}

#[tokio::test]
async fn what_is_lost_ends_nothing() {
    let yard = Yard::new();
    let (table, a) = (yard.block.instance(), &yard.a);
    let mut ear = watched(&yard, a.ip).await;
    // Without the limits.
    let chain = format!("insert rule inet {table} to_frozen ip daddr {} log group {}", a.ip, yard.door);
    run(&["nft", &chain]);
    perl(&host(), FLOOD, &[&a.ip.to_string(), "22", "udp", "50000"]);
    let kept = ear.rest().await.len();
    eprintln!("{kept} of 50000 kept while nobody listened");
    assert!((500..50_000).contains(&kept), "{kept}");
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(b"x", (a.ip, 22)).unwrap();
    assert_eq!(ear.next().await.unwrap().client.port(), socket.local_addr().unwrap().port());
}

/// An `nft` that cannot log as long as there is a file beside it with that name, `mute`.
fn old_nft(folder: &Path) -> PathBuf {
    let path = folder.join("old");
    let mute = folder.join("mute");
    let script = format!(
        "text=$(cat)\n\
         case \"$text\" in *'log group'*) if [ -e '{}' ]; then echo 'no such thing' >&2; exit 1; fi;; esac\n\
         printf '%s\\n' \"$text\" | exec nft \"$@\"",
        mute.display()
    );
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    fs::write(mute, "").unwrap();
    path
}

#[tokio::test]
async fn a_log_that_comes_late_is_heard_and_one_that_is_lost_ends() {
    let yard = Yard::new();
    let folder = tempfile::tempdir().unwrap();
    let nft = Nft::new(yard.rules()).unwrap().with_program(old_nft(folder.path()));
    let mute = folder.path().join("mute");
    nft.ensure().await.unwrap();
    nft.watch(&just(yard.a.ip)).await.unwrap();
    // As often as it is tried again, and more: it stays as it is.
    for _ in 0..40 {
        assert!(nft.knocks().await.is_err());
    }
    assert!(!nft.ensure().await.unwrap());

    // It is there, and does not go unnoticed for longer than half a minute of asking once a second.
    fs::remove_file(&mute).unwrap();
    let mut asked = 0;
    let mut ear = loop {
        match nft.knocks().await {
            Ok(knocks) => break Ear(knocks),
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
        }
        asked += 1;
        assert!(asked < 30);
    };
    assert!(!nft.ensure().await.unwrap());
    assert_open(&host(), &[format!("tcp {} 22", yard.a.ip)]);
    assert!(ear.next().await.is_some());
    ear.rest().await;

    // It is gone again, and the rules have to be put back: nobody goes on listening to nothing.
    fs::write(&mute, "").unwrap();
    run(&["nft", &format!("delete table inet {}", yard.block.instance())]);
    assert!(nft.ensure().await.unwrap());
    assert_eq!(timeout(SOON, ear.0.next()).await, Ok(None), "it does not end");
    assert!(nft.knocks().await.is_err());
}

#[tokio::test]
async fn where_nothing_can_be_logged_all_else_is_in_place() {
    let yard = Yard::new();
    let folder = tempfile::tempdir().unwrap();
    let rules = || yard.rules();
    let nft = Nft::new(rules()).unwrap().with_program(old_nft(folder.path()));
    assert!(nft.ensure().await.unwrap());
    nft.watch(&just(yard.a.ip)).await.unwrap();
    nft.divert(&BTreeSet::from([yard.b.port])).await.unwrap();
    assert!(!nft.ensure().await.unwrap());
    let refused = nft.knocks().await.err().unwrap();
    assert!(refused.kind() == Kind::Unavailable && refused.message().contains("nfnetlink_log"), "{refused}");
    let target = format!("tcp {} {}", yard.network.gateway(), yard.b.port);
    assert_eq!(probe(&host(), std::slice::from_ref(&target))[&target], "refused");

    let nft = Nft::new(Rules { door: None, ..rules() }).unwrap();
    nft.ensure().await.unwrap();
    nft.watch(&just(yard.a.ip)).await.unwrap();
    assert!(!nft.ensure().await.unwrap());
    let refused = nft.knocks().await.err().unwrap();
    assert!(refused.kind() == Kind::Unavailable && refused.message().contains("no door"), "{refused}");
}
