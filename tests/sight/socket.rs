//! Connections of every kind, to programs that treat them well and badly.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use spindown::model::Look;

use super::*;

/// Takes connections on all ports and says nothing: on 7001 reads all, on 7002 nothing, 7003 takes none, 7004 talks all
/// the time. 7001 is IPv6's, with IPv4 in it.
const SERVER: &str = r#"
alarm 120; $SIG{CHLD} = 'IGNORE';
for my $port (7001..7004) {
    next if fork;
    alarm 120;
    my $six = $port == 7001;
    socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die;
    setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
    setsockopt($s, IPPROTO_IPV6, IPV6_V6ONLY, 0) if $six;
    bind($s, $six ? pack_sockaddr_in6($port, IN6ADDR_ANY) : pack_sockaddr_in($port, INADDR_ANY)) or die "$!";
    listen($s, 4096) or die;
    sleep 120 if $port == 7003;
    while (accept(my $c, $s)) {
        next if fork;
        alarm 60;
        if ($port == 7001) { while (sysread $c, my $b, 65536) {} sleep 60 }
        if ($port == 7004) { while (syswrite $c, "tick\n") { select undef, undef, undef, 0.1 } }
        sleep 60;
    }
}
sleep 120;
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_read_is_counted() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    let mut client = sandbox.connect(7002);
    let target = sandbox.target();
    let seen = look(&eyes, &target).await;
    assert_eq!(seen.connections.len(), 1, "{seen:#?}");
    assert_eq!((seen.connections[0].client, seen.connections[0].port), (client.local_addr().unwrap(), 7002));
    assert_eq!((seen.connections[0].unread, seen.connections[0].login), (0, false));
    client.write_all(b"hello").unwrap();
    look_until(&eyes, &target, "five", |look| look.connections[0].unread == 5).await;

    // In a container that is frozen nobody reads, who otherwise would.
    let mut reader = sandbox.connect(7001);
    let of = |look: &Look, stream: &TcpStream| {
        look.connections.iter().find(|c| c.client == stream.local_addr().unwrap()).copied().unwrap()
    };
    reader.write_all(b"read").unwrap();
    look_until(&eyes, &target, "read", |look| of(look, &reader).unread == 0).await;
    run("docker", &["pause", &sandbox.name]);
    reader.write_all(b"not read").unwrap();
    let frozen = look_until(&eyes, &target, "not read", |look| of(look, &reader).unread == 8).await;
    assert_eq!(of(&frozen, &client).unread, 5);
    // Who comes now is there too, without anybody having taken the connection.
    let late = sandbox.connect(7002);
    assert_eq!(of(&look(&eyes, &target).await, &late).unread, 0);
    run("docker", &["unpause", &sandbox.name]);
    look_until(&eyes, &target, "read after all", |look| of(look, &reader).unread == 0).await;

    // One who has said all that he will is still there, and his end is no data.
    client.shutdown(Shutdown::Write).unwrap();
    late.shutdown(Shutdown::Write).unwrap();
    reader.shutdown(Shutdown::Write).unwrap();
    let ended = look_until(&eyes, &target, "all", |look| look.connections.len() == 3).await;
    assert_eq!([&client, &late, &reader].map(|stream| of(&ended, stream).unread), [5, 0, 0]);
    drop((client, late, reader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_moves_either_way_is_not_quiet() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    let (mut sends, mut hears) = (sandbox.connect(7001), sandbox.connect(7004));
    let idle = sandbox.connect(7001);
    let (sender, hearer, idler) =
        (sends.local_addr().unwrap(), hears.local_addr().unwrap(), idle.local_addr().unwrap());
    thread::spawn(move || {
        while sends.write_all(b"upload").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    thread::spawn(move || while hears.read(&mut [0; 64]).is_ok_and(|length| length > 0) {});
    let (target, begun) = (sandbox.target(), Instant::now());
    look_until(&eyes, &target, "the time", |look| {
        for connection in &look.connections {
            let quiet = connection.quiet;
            if connection.client == idler {
                assert!(quiet + SECOND > begun.elapsed(), "{quiet:?}");
            } else {
                assert!([sender, hearer].contains(&connection.client));
                assert!(quiet < SECOND, "{connection:?} after {:?}", begun.elapsed());
            }
        }
        assert_eq!(look.connections.len(), 3);
        begun.elapsed() > SECOND * 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_has_vanished_grows_quiet_whatever_he_is_sent() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    drop(sandbox.connect(7004));
    let program =
        format!("my $s = IO::Socket::INET->new('{}:7004') or die; while (sysread $s, my $b, 9) {{}}", sandbox.ip());
    let client = Sandbox::perl(&program);
    let (target, ip) = (sandbox.target(), client.ip());
    let is_his = |c: &&spindown::model::Connection| c.client.ip() == ip;
    look_until(&eyes, &target, "he is there", |look| look.connections.iter().any(|c| is_his(&c))).await;
    run("docker", &["network", "disconnect", "-f", "bridge", &client.name]);
    let vanished =
        look_until(&eyes, &target, "quiet", |look| look.connections.iter().find(is_his).unwrap().quiet > SECOND * 4);
    vanished.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_itself_is_nobodys() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    let (target, ip) = (sandbox.target(), sandbox.ip());
    let program = format!(
        "my @s; for my $ip (qw(127.0.0.1 {ip})) {{
             my $s; select undef, undef, undef, 0.1 until $s = IO::Socket::INET->new(qq($ip:7001)); push @s, $s
         }}
         syswrite STDOUT, qq(in\\n); sleep 60"
    );
    let here = sandbox.exec_beside(&format!("exec perl -MIO::Socket::INET -e '{program}'"));
    here.until("in");
    assert_eq!(look(&eyes, &target).await.connections, []);
    let client = sandbox.connect(7001);
    let seen = look(&eyes, &target).await;
    assert_eq!((seen.connections.len(), seen.connections[0].client), (1, client.local_addr().unwrap()), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_thousand_is_seen_at_once() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    let target = sandbox.target();
    drop(sandbox.connect(7003));
    look_until(&eyes, &target, "nobody", |look| look.connections.iter().all(|c| c.unread == 0)).await;
    let clients: Vec<_> = (0..900).map(|_| sandbox.connect(7003)).collect();
    let seen = look(&eyes, &target).await;
    let mut missed = clients.iter().filter(|s| !seen.connections.iter().any(|c| c.client == s.local_addr().unwrap()));
    assert!(missed.next().is_none(), "{} of {}", seen.connections.len(), clients.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_as_another_goes_is_seen_at_the_next_look() {
    let (sandbox, eyes) = (Sandbox::perl(SERVER), eyes());
    let target = sandbox.target();
    drop(sandbox.connect(7004));
    look_until(&eyes, &target, "nobody", |look| look.connections.is_empty()).await;
    let mut clients: Vec<TcpStream> = Vec::new();
    // As many, fewer and more, over the time in which the kernel's count is relied on.
    for round in 0..80 {
        if round % 3 == 0 && !clients.is_empty() {
            // The container takes it as an abrupt end, and has nothing left of it.
            let gone = clients.remove(round % clients.len());
            rustix::net::sockopt::set_socket_linger(&gone, Some(Duration::ZERO)).unwrap();
        }
        if round % 3 != 1 || round > 40 {
            clients.push(sandbox.connect(7002));
        }
        let seen = look(&eyes, &target).await;
        let mut there: Vec<_> = seen.connections.iter().map(|c| c.client).collect();
        let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        there.sort();
        expected.sort();
        assert_eq!(there, expected, "round {round}");
    }
    assert!(clients.len() > 34, "{}", clients.len());
}

/// Takes connections on 7005 and has the kernel ask each second whether the other end is there.
const ANXIOUS: &str = r#"
alarm 60; $SIG{CHLD} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalPort => 7005, Listen => 9, ReuseAddr => 1) or die;
while (my $c = $s->accept) {
    setsockopt($c, SOL_SOCKET, SO_KEEPALIVE, 1); setsockopt($c, 6, $_, 1) for 4, 5;
    next if fork;
    sleep 60;
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merely_keeps_a_connection_alive_moves_no_data() {
    let (sandbox, eyes) = (Sandbox::perl(ANXIOUS), eyes());
    let (asked, asks) = (sandbox.connect(7005), sandbox.connect(7005));
    rustix::net::sockopt::set_socket_keepalive(&asks, true).unwrap();
    rustix::net::sockopt::set_tcp_keepidle(&asks, SECOND).unwrap();
    rustix::net::sockopt::set_tcp_keepintvl(&asks, SECOND).unwrap();
    let probes = || -> u32 {
        let script = r#"awk '/^TcpExt:/ { if (!n) n = split($0, name); else for (i = 2; i <= n; i++)
            if (name[i] == "TCPKeepAlive") print $i }' /proc/net/netstat"#;
        sandbox.exec(script).parse().unwrap()
    };
    let (target, before) = (sandbox.target(), probes());
    for frozen in [false, true] {
        if frozen {
            run("docker", &["pause", &sandbox.name]);
        }
        let (begun, least) = (Instant::now(), look(&eyes, &target).await.connections[0].quiet);
        let seen = look_until(&eyes, &target, "the time", |_| begun.elapsed() > SECOND * 3).await;
        for client in [&asked, &asks] {
            let his = seen.connections.iter().find(|c| c.client == client.local_addr().unwrap()).unwrap();
            assert!(his.quiet + SECOND / 2 > least + SECOND * 3 && his.unread == 0, "frozen: {frozen}, {his:?}");
        }
    }
    run("docker", &["unpause", &sandbox.name]);
    assert!(probes() >= before + 4, "nobody asked: {} after {before}", probes());
}
