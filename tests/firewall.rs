//! Two containers attack each other and the host, and fail. Every attack is seen to succeed without the rules first, or
//! from where it may, so that none fails for a reason of its own.
#![expect(clippy::disallowed_methods, reason = "they measure how long the real thing takes")]

mod door;
mod knock;
pub mod yard;

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use spindown::{
    firewall::{
        Firewall,
        nft::Nft,
        rules::{CONNECTIONS, RATE, Rules},
    },
    model::Kind,
};
use yard::*;

#[tokio::test]
async fn containers_do_not_reach_each_other_over_any_published_port() {
    let yard = Yard::new();
    let Yard { a, b, .. } = &yard;
    let addresses = yard.host_addresses();
    assert!(addresses.len() >= 3, "{addresses:?}");
    yard.arm_with_ipv6(a, 2);
    let published: Vec<_> = addresses
        .iter()
        .flat_map(|h| [format!("tcp {h} {}", b.port), format!("udp {h} {}", b.port), format!("tcp {h} {}", a.port)])
        .collect();
    let direct = [format!("tcp {} 22", b.ip), format!("udp {} 22", b.ip)];

    // What enable_icc=false leaves open.
    let before = probe(&a.inside(), &published);
    for host in [yard.network.gateway().to_string(), "172.17.0.1".to_owned()] {
        assert_eq!(before[&format!("tcp {host} {}", b.port)], "open", "{before:#?}");
        assert_eq!(before[&format!("udp {host} {}", b.port)], "open", "{before:#?}");
        assert_eq!(before[&format!("tcp {host} {}", a.port)], "open", "{before:#?}");
    }
    let link_local = addresses.iter().find(|h| h.starts_with("fe80")).unwrap();
    assert_eq!(before[&format!("tcp {link_local} {}", b.port)], "open", "{before:#?}");
    assert_open(&host(), &direct);

    assert!(yard.nft.ensure().await.unwrap());
    let all: Vec<_> = published.into_iter().chain(direct.clone()).collect();
    assert_silent(&a.inside(), &all);
    assert_silent(&b.inside(), &[format!("tcp {} 22", a.ip)]);
    // Not even with all that root may do there.
    assert_silent(&a.network(), &all);
    assert_open(&host(), &direct);
    assert_open(&host(), &[format!("tcp 127.0.0.1 {}", b.port), format!("tcp ::1 {}", b.port)]);
}

#[tokio::test]
async fn containers_do_not_reach_each_other_where_the_engine_lets_them() {
    let yard = Yard::with_icc(true);
    let Yard { a, b, .. } = &yard;
    let _listener = Listener::new((yard.network.gateway(), yard.check_in));
    yard.arm_with_ipv6(a, 2);
    yard.arm_with_ipv6(b, 3);
    let third = yard.network.subnet.addr().octets()[2];
    // Nothing listens on IPv6 there: a refusal is the answer.
    let six = format!("tcp fd99:{third:x}::3 9");
    let four = [
        format!("tcp {} 22", b.ip),
        format!("udp {} 22", b.ip),
        format!("udp {} 22", yard.network.subnet.broadcast()),
        format!("icmp {} 0", b.ip),
    ];
    assert_open(&a.inside(), &four);
    assert_eq!(probe(&a.inside(), std::slice::from_ref(&six))[&six], "refused");

    // Around by the gateway, as one with more rights might try.
    let detour = |verb: &str| {
        let mut route = a.network();
        let (to, by) = (format!("{}/32", b.ip), yard.network.gateway().to_string());
        route.extend(["ip", "route", verb, &to, "via", &by].map(str::to_owned));
        run(&route.iter().map(String::as_str).collect::<Vec<_>>());
    };
    detour("add");
    assert_open(&a.inside(), &four[..1]);
    detour("del");

    yard.nft.ensure().await.unwrap();
    // Neighbours must be asked for again: the question itself should get no further than the bridge.
    for inmate in [a, b] {
        let mut flush = inmate.network();
        flush.extend(["ip", "neigh", "flush", "all"].map(str::to_owned));
        run(&flush.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_silent(&a.inside(), &[&four[..], &[six]].concat());
    let mut neighbours = a.network();
    neighbours.extend(["ip", "neigh", "show"].map(str::to_owned));
    let neighbours = run(&neighbours.iter().map(String::as_str).collect::<Vec<_>>());
    let of = |ip: String| neighbours.lines().filter(move |l| l.starts_with(&format!("{ip} "))).collect::<String>();
    assert!(!of(b.ip.to_string()).contains("lladdr"), "{neighbours}");
    assert!(!of(format!("fd99:{third:x}::3")).contains("lladdr"), "{neighbours}");

    detour("add");
    assert_silent(&a.inside(), &four);
    assert_open(&a.inside(), &[yard.check_in()]);
    assert_open(&b.inside(), &[yard.check_in()]);
    assert_open(&host(), &four[..2]);
}

#[tokio::test]
async fn of_the_host_containers_reach_check_in_only() {
    let yard = Yard::new();
    let Yard { a, .. } = &yard;
    let (four, six) = (yard.port(0), yard.port(1));
    let listeners = [Listener::new((Ipv4Addr::UNSPECIFIED, four)), Listener::new((Ipv6Addr::UNSPECIFIED, six))];
    let check_in = Listener::new((yard.network.gateway(), yard.check_in));
    yard.arm_with_ipv6(a, 2);
    let mut targets: Vec<_> = yard
        .host_addresses()
        .iter()
        .flat_map(|h| [four, six].map(|p| [format!("tcp {h} {p}"), format!("udp {h} {p}")]).concat())
        // The wildcard on IPv4 alone has nothing on IPv6.
        .filter(|t| !(t.contains(':') && t.ends_with(&four.to_string())))
        .collect();
    targets.push(format!("udp 255.255.255.255 {four}"));
    targets.push(format!("udp {} {four}", yard.network.subnet.broadcast()));
    let echo = format!("icmp {} 0", yard.network.gateway());
    let closed = format!("tcp {} {}", yard.network.gateway(), yard.port(2));

    // From the container's network, since it has routes to all of them only in part otherwise.
    let before = probe(&a.inside(), &targets);
    for target in &targets {
        let counted = target.contains(&yard.network.gateway().to_string())
            || target.contains("172.17.0.1")
            || target.contains("fe80")
            || target.contains("fd99");
        assert!(!counted || before[target] == "open", "{target}: {before:#?}");
    }
    assert_open(&a.inside(), std::slice::from_ref(&echo));
    assert_eq!(probe(&a.inside(), std::slice::from_ref(&closed))[&closed], "refused");
    let reached = |l: &Listener| (l.connections(), l.datagrams());
    assert!(listeners.iter().all(|l| l.connections() > 0 && l.datagrams() > 0));

    yard.nft.ensure().await.unwrap();
    let before: Vec<_> = listeners.iter().map(reached).collect();
    targets.extend([echo, closed, format!("udp {} {}", yard.network.gateway(), yard.check_in)]);
    assert_silent(&a.inside(), &targets);
    assert_silent(&a.network(), &targets);
    assert_eq!(before, listeners.iter().map(reached).collect::<Vec<_>>());
    assert_eq!(check_in.datagrams(), 0);

    assert_open(&a.inside(), &[yard.check_in()]);
    assert!(check_in.connections() > 0);
    // The check-in port at another address of the host is another service.
    let elsewhere = Listener::new((Ipv4Addr::new(172, 17, 0, 1), yard.check_in));
    assert_silent(&a.inside(), &[format!("tcp 172.17.0.1 {}", yard.check_in)]);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn other_bridges_of_the_host_are_out_of_reach() {
    let yard = Yard::new();
    let Yard { a, .. } = &yard;
    let stranger = yard.another(Some("bridge"), &[]);
    let mut machine = Outside::new(&yard);
    machine.behind_bridge();
    machine.serve(SERVER, &["22"]);
    let machines = format!("tcp {} 22", machine.ip);
    until_open(&machines);
    let mut strangers = vec![format!("tcp {} 22", stranger.ip), format!("udp {} 22", stranger.ip)];
    assert_open(&host(), &strangers);
    strangers.extend(
        yard.host_addresses().iter().filter(|h| !h.contains(':')).map(|h| format!("tcp {h} {}", stranger.port)),
    );
    // The engine keeps its own bridges apart, and knows nothing of others.
    assert_open(&a.inside(), std::slice::from_ref(&machines));

    yard.nft.ensure().await.unwrap();
    strangers.push(machines.clone());
    assert_silent(&a.inside(), &strangers);
    assert_open(&host(), &[machines, format!("tcp {} 22", stranger.ip)]);
    assert_silent(&stranger.inside(), &[format!("tcp {} 22", a.ip)]);
}

#[tokio::test]
async fn metadata_and_what_the_host_publishes_are_out_of_reach_and_the_outside_is_not() {
    const METADATA: [&str; 5] = ["169.254.169.254", "169.254.1.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"];
    // The addresses are the same for every test, and so for every run beside this one.
    let lock = File::create(std::env::temp_dir().join("spindown-test-metadata")).unwrap();
    lock.lock().unwrap();
    let yard = Yard::new();
    let Yard { a, .. } = &yard;
    let mut cloud = Outside::new(&yard);
    METADATA.iter().for_each(|address| cloud.own(address));
    cloud.own("203.0.113.9");
    // A datagram's answer must come from where the question went.
    let resolvers = ["203.0.113.9/53", "169.254.169.254/53", "168.63.129.16/53", "100.100.100.200/53"];
    cloud.serve(SERVER, &[&["80", "22"], &resolvers[..]].concat());
    until_open("tcp 203.0.113.9 80");
    // One that the host itself has, as with a proxy for metadata.
    run(&["ip", "addr", "add", "169.254.170.2/32", "dev", &cloud.link]);
    let port = yard.port(0);
    let _listener = Listener::new((Ipv4Addr::UNSPECIFIED, port));
    let mut metadata: Vec<_> = METADATA.iter().map(|m| format!("tcp {m} 80")).collect();
    metadata.push(format!("tcp 169.254.170.2 {port}"));
    metadata.push("udp 100.100.100.200 53".to_owned());
    // What the host publishes of others is a service of the host, though the same is free where it really is.
    cloud.publish(yard.port(1));
    metadata.push(format!("tcp {} {}", yard.network.gateway(), yard.port(1)));
    let free = [
        "tcp 203.0.113.9 80",
        "tcp 203.0.113.9 22",
        "udp 203.0.113.9 53",
        "udp 169.254.169.254 53",
        "tcp 168.63.129.16 53",
    ]
    .map(str::to_owned);
    assert_open(&a.inside(), &[&metadata[..], &free[..]].concat());

    yard.nft.ensure().await.unwrap();
    assert_silent(&a.inside(), &metadata);
    assert_open(&a.inside(), &free);
    assert_open(&host(), &metadata[..1]);
}

#[tokio::test]
async fn a_source_that_is_not_of_the_network_gets_nowhere() {
    let yard = Yard::new();
    let Yard { a, .. } = &yard;
    let third = yard.network.subnet.addr().octets()[2];
    let spoofed = format!("198.51.100.{third}");
    let listener = Listener::new((yard.network.gateway(), yard.check_in));
    let mut arm = a.network();
    arm.extend(["ip", "addr", "add", &format!("{spoofed}/32"), "dev", "eth0"].map(str::to_owned));
    run(&arm.iter().map(String::as_str).collect::<Vec<_>>());
    // So that answers would find their way; gone with the bridge.
    run(&["ip", "route", "replace", &format!("{spoofed}/32"), "dev", &yard.network.bridge]);
    let attack = format!("{} {spoofed}", yard.check_in());
    assert_open(&a.inside(), std::slice::from_ref(&attack));

    yard.nft.ensure().await.unwrap();
    let before = listener.connections();
    assert_silent(&a.inside(), &[attack]);
    assert_eq!(listener.connections(), before);
    assert_open(&a.inside(), &[yard.check_in()]);
}

/// Opens connections until it has so many or time is up, holds them if told to, and says how many opened.
const FLOOD: &str = r#"
use Socket; use Errno; use Fcntl; $| = 1; alarm 20;
my ($host, $port, $count, $hold) = @ARGV; my ($open, @held) = 0;
for (1..$count) {
    socket(my $s, PF_INET, SOCK_STREAM, 0); fcntl($s, F_SETFL, O_NONBLOCK);
    connect($s, pack_sockaddr_in($port, inet_aton($host)));
    vec(my $w = '', fileno($s), 1) = 1;
    if (select(undef, $w, undef, 0.02) and getpeername $s) { $open++ }
    push @held, $s if $hold;
}
print "$open\n"; sleep $hold if $hold;
"#;

#[tokio::test]
async fn a_flood_of_check_ins_stays_with_its_source() {
    let yard = Yard::new();
    let Yard { a, b, .. } = &yard;
    let _listener = Listener::new((yard.network.gateway(), yard.check_in));
    let (gateway, port) = (yard.network.gateway().to_string(), yard.check_in.to_string());
    let flood = |count: &str| perl(&a.inside(), FLOOD, &[&gateway, &port, count, "0"]).trim().parse::<u32>().unwrap();
    let held = |hold: &str| start(&a.inside(), FLOOD, &[&gateway, &port, "100", hold]);
    assert_eq!(flood("100"), 100);
    let (mut holder, open) = held("1");
    assert_eq!(open, "100");
    holder.wait().unwrap();

    yard.nft.ensure().await.unwrap();
    let (mut holder, open) = held("4");
    let open: u32 = open.parse().unwrap();
    assert!((1..=CONNECTIONS).contains(&open), "{open}");
    // While A holds what it could get.
    assert_open(&b.inside(), &[yard.check_in()]);
    assert_silent(&a.inside(), &[yard.check_in()]);
    holder.wait().unwrap();
    // Closed connections count no longer, but those begun lately do.
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    let open = flood("200");
    let most = RATE.1 + RATE.0 * u32::try_from(began.elapsed().as_secs() + 1).unwrap();
    assert!((1..=most).contains(&open), "{open} of {most}");
    assert_open(&b.inside(), &[yard.check_in()]);
    thread::sleep(Duration::from_secs(1));
    assert_open(&a.inside(), &[yard.check_in()]);
}

#[tokio::test]
async fn clients_outside_are_served_as_before() {
    let yard = Yard::new();
    let Yard { a, .. } = &yard;
    let outside = Outside::new(&yard);
    // Sends a megabyte while it reads the echo, and says how much of it came back intact; pauses in the middle.
    const ECHO: &str = r#"
        use IO::Socket::INET; use Digest::MD5; $| = 1; alarm 30;
        my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 3) or die "connect: $!";
        sysread $s, my $greeting, 6; print $greeting;
        my $got = '';
        for my $n (1..64) {
            my $block = chr($n) x 16384; syswrite $s, $block; sleep 2 if $n == 32;
            my $back = ''; while (length $back < 16384) { sysread $s, $back, 16384, length $back or die "lost" }
            $got .= $back if $back eq $block;
        }
        print length $got, "\n";
    "#;
    let echo = ECHO.replace(" use Digest::MD5;", "");
    let port = a.port.to_string();
    // Begun without the rules, gone on with them, and over their being put back.
    let (host, from) = (outside.host.to_string(), outside.inside());
    let transfer = |to: String| {
        let (from, port, echo) = (from.clone(), port.clone(), echo.clone());
        thread::spawn(move || perl(&from, &echo, &[&to, &port]))
    };
    let first = transfer(host.clone());
    thread::sleep(Duration::from_millis(500));
    yard.nft.ensure().await.unwrap();
    let second = transfer(host.clone());
    thread::sleep(Duration::from_millis(500));
    run(&["nft", "flush", "table", "inet", &yard.block.instance()]);
    assert!(yard.nft.ensure().await.unwrap());
    assert_eq!(first.join().unwrap(), "hello\n1048576\n");
    assert_eq!(second.join().unwrap(), "hello\n1048576\n");

    assert_open(&outside.inside(), &[format!("tcp {host} {port}"), format!("udp {host} {port}")]);
    assert_open(
        &yard::host(),
        &[
            format!("tcp {} 22", a.ip),
            format!("udp {} 22", a.ip),
            format!("tcp 127.0.0.1 {port}"),
            format!("tcp ::1 {port}"),
            format!("tcp {} {port}", yard.network.gateway()),
        ],
    );
    // A refusal is an answer that has to come through, too.
    let closed = format!("tcp {} 9", a.ip);
    assert_eq!(probe(&yard::host(), std::slice::from_ref(&closed))[&closed], "refused");
}

#[tokio::test]
async fn names_are_resolved() {
    let yard = Yard::new();
    let mut outside = Outside::new(&yard);
    // Answers every question for an IPv4 address with the same one.
    outside.serve(
        r#"
        use IO::Socket::INET; alarm 120;
        my $u = IO::Socket::INET->new(Proto => 'udp', LocalPort => 53) or die;
        while (1) {
            my $q; defined $u->recv($q, 512) or next;
            my $end = index($q, "\0", 12) + 1; my $four = unpack('n', substr($q, $end, 2)) == 1;
            my $answer = $four ? pack('nnnNnC4', 0xc00c, 1, 1, 1, 4, 203, 0, 113, 9) : '';
            $u->send(substr($q, 0, 2) . pack('nnnnn', 0x8180, 1, $four ? 1 : 0, 0, 0)
                . substr($q, 12, $end + 4 - 12) . $answer);
        }
        "#,
        &[],
    );
    let c = yard.another(None, &["--dns", &outside.ip.to_string()]);
    yard.nft.ensure().await.unwrap();
    let resolve = |name: &str| run(&["docker", "exec", &c.id, "timeout", "10", "getent", "ahostsv4", name]);
    assert!(run(&["docker", "exec", &c.id, "cat", "/etc/resolv.conf"]).contains("127.0.0.11"));
    assert!(resolve(&format!("{}-1", yard.block.instance())).starts_with(&yard.b.ip.to_string()));
    assert!(resolve("name.example").starts_with("203.0.113.9"));
}

#[tokio::test]
async fn raw_sockets_and_device_nodes_are_refused() {
    let yard = Yard::new();
    let raw = "use Socket; socket(S, PF_INET, SOCK_RAW, 1) or die $!";
    let packet = "socket(S, 17, 3, 0) or die $!";
    let node = "mknod /tmp/node c 1 3";
    let tries = [["perl", "-e", raw], ["perl", "-e", packet], ["sh", "-c", node]];
    let free = ["docker", "run", "--rm", "--network", "none", "--entrypoint"];
    for [program, flag, what] in tries {
        let (done, words) = attempt(&[&free[..], &[program, crate::support::block::IMAGE, flag, what]].concat());
        assert!(done, "{what}: {words}");
        let (done, words) = attempt(&["docker", "exec", &yard.a.id, program, flag, what]);
        assert!(!done && words.contains("not permitted"), "{what}: {words}");
    }
    // Nor may it change its own address.
    let (done, _) = attempt(&["docker", "exec", &yard.a.id, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
    assert!(!done);
}

#[tokio::test]
async fn whatever_is_done_to_the_rules_is_noticed_and_put_back() {
    let yard = Yard::new();
    let (nft, table) = (&yard.nft, yard.block.instance());
    let listing = || {
        run(&["nft", "-nst", "list", "table", "inet", &table])
            + &run(&["nft", "-nst", "list", "table", "bridge", &table])
    };
    assert!(nft.ensure().await.unwrap());
    let whole = listing();
    assert!(!nft.ensure().await.unwrap());

    let handle = |family: &str, chain: &str, rule: &str| {
        let chain = run(&["nft", "-a", "list", "chain", family, &table, chain]);
        let line = chain.lines().find(|l| l.contains(rule)).unwrap();
        line.rsplit_once("handle ").unwrap().1.to_owned()
    };
    let damages: [&dyn Fn() -> String; 13] = [
        &|| format!("delete table inet {table}"),
        &|| format!("delete table bridge {table}"),
        &|| format!("delete table inet {table}; delete table bridge {table}"),
        &|| format!("flush table inet {table}"),
        &|| format!("flush chain inet {table} host"),
        &|| format!("flush chain bridge {table} between"),
        &|| format!("delete rule inet {table} beyond handle {}", handle("inet", "beyond", "oifname")),
        &|| format!("delete rule inet {table} arriving handle {}", handle("inet", "arriving", "100.100.100.200")),
        &|| format!("insert rule inet {table} host accept"),
        &|| format!("insert rule bridge {table} between accept"),
        &|| format!("add chain inet {table} stranger"),
        &|| format!("add set inet {table} stranger {{ type ipv4_addr; }}"),
        &|| format!("add table inet {table} {{ flags dormant; }}"),
    ];
    let listener = Listener::new((Ipv4Addr::UNSPECIFIED, yard.port(0)));
    let attack = [format!("tcp {} {}", yard.network.gateway(), yard.port(0))];
    for damage in damages {
        let damage = damage();
        run(&["nft", &damage]);
        assert!(nft.ensure().await.unwrap(), "{damage}");
        assert_eq!(listing(), whole, "{damage}");
        assert!(!nft.ensure().await.unwrap(), "{damage}");
    }
    assert_silent(&yard.a.inside(), &attack);

    // What passed while they were gone does not go on when they are back.
    run(&["nft", "delete", "table", "inet", &table]);
    let hold = r#"
        use IO::Socket::INET; $| = 1; alarm 5; $SIG{PIPE} = 'IGNORE';
        my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die; print "open\n";
        while (1) { syswrite $s, "tick\n"; select undef, undef, undef, 0.1 }
    "#;
    let to = [yard.network.gateway().to_string(), yard.port(0).to_string()];
    let (mut holder, open) = start(&yard.a.inside(), hold, &[&to[0], &to[1]]);
    assert_eq!(open, "open");
    thread::sleep(Duration::from_millis(500));
    assert!(listener.bytes() > 0);
    assert!(nft.ensure().await.unwrap());
    let bytes = listener.bytes();
    thread::sleep(Duration::from_millis(700));
    assert_eq!(listener.bytes(), bytes);
    holder.kill().unwrap();
    holder.wait().unwrap();

    nft.remove().await.unwrap();
    assert!(!run(&["nft", "list", "tables"]).contains(&table));
    assert_open(&yard.a.inside(), &attack);
    nft.remove().await.unwrap();
    assert!(nft.ensure().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn putting_them_back_leaves_no_gap() {
    let yard = Yard::new();
    let (nft, table) = (&yard.nft, yard.block.instance());
    let listener = Listener::new((Ipv4Addr::UNSPECIFIED, yard.port(0)));
    let fire = r#"
        use IO::Socket::INET; $| = 1; print "ready\n"; my $end = time + 3;
        my $s = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $ARGV[0], PeerPort => $ARGV[1]);
        while (time < $end) { for (1..20) { $s->send('x') } select undef, undef, undef, 0.001 }
    "#;
    let to = [yard.network.gateway().to_string(), yard.port(0).to_string()];
    nft.ensure().await.unwrap();
    let (mut gun, _) = start(&yard.a.inside(), fire, &[&to[0], &to[1]]);
    let (mut steady, mut again) = (vec![], vec![]);
    while gun.try_wait().unwrap().is_none() {
        run(&["nft", "add", "chain", "inet", &table, "stranger"]);
        let began = Instant::now();
        assert!(nft.ensure().await.unwrap());
        again.push(began.elapsed());
        let began = Instant::now();
        assert!(!nft.ensure().await.unwrap());
        steady.push(began.elapsed());
    }
    assert!(again.len() > 10, "{}", again.len());
    assert_eq!(listener.datagrams(), 0);
    for (what, mut times) in [("steady", steady), ("put back", again)] {
        times.sort();
        eprintln!("{what}: median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
    // They would have come through.
    nft.remove().await.unwrap();
    assert_open(&yard.a.inside(), &[format!("udp {} {}", to[0], to[1])]);
}

#[tokio::test]
async fn an_nft_that_is_missing_mute_or_not_allowed_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let rules = || Rules {
        table: "sdtest-never".to_owned(),
        bridge: "sdtest-never".to_owned(),
        gateway: Ipv4Addr::new(10, 99, 255, 1),
        check_in_port: 80,
        subnet: "10.99.255.0/24".parse().unwrap(),
        door: None,
    };
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    };
    let error = async |program: &Path| {
        let nft = Nft::new(rules()).unwrap().with_program(program);
        let (ensure, remove) = (nft.ensure().await.unwrap_err(), nft.remove().await.unwrap_err());
        assert_eq!((ensure.kind(), remove.kind()), (Kind::Unavailable, Kind::Unavailable));
        ensure.message().to_owned()
    };
    assert!(error(Path::new("/nowhere/nft")).await.contains("install the package nftables"));
    let powerless = script("powerless", "exec setpriv --reuid 65534 --clear-groups nft \"$@\"");
    assert!(error(&powerless).await.contains("NET_ADMIN"));
    let refusing = script("refusing", "cat > /dev/null; echo 'syntax error' >&2; exit 1");
    assert!(error(&refusing).await.contains("refused"));

    let pid = folder.path().join("pid");
    let mute = script("mute", &format!("echo $$ >> {}; exec sleep 60", pid.display()));
    let nft = Nft::new(rules()).unwrap().with_program(&mute);
    let began = Instant::now();
    assert!(nft.ensure().await.unwrap_err().message().contains("did not end"));
    assert!((4..8).contains(&began.elapsed().as_secs()));
    // Nor does it outlive a caller that gives up.
    assert!(tokio::time::timeout(Duration::from_millis(300), nft.ensure()).await.is_err());
    thread::sleep(Duration::from_millis(300));
    let pids = fs::read_to_string(pid).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
    }
}
