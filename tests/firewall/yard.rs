//! Where the attacks take place: the network as the service makes it, two containers on it, and listeners and a
//! network namespace of the test's own. A probe tells of each target whether *anything* answered.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use spindown::{
    engine::NetworkSpec,
    firewall::{
        nft::Nft,
        rules::{Door, Rules},
    },
    model::birth,
};

use crate::support::block::{Block, IMAGE};

/// Echoes: on each `port` or `address/port` given, TCP and UDP, after a greeting on TCP. Ends by itself, should nobody
/// end it.
pub const SERVER: &str = r#"
use IO::Socket::INET; $SIG{CHLD} = 'IGNORE'; alarm 300;
for (@ARGV) {
    my ($port, $address) = reverse split '/'; my @at = (LocalAddr => $address || '0.0.0.0', LocalPort => $port);
    if (!fork) {
        alarm 300;
        my $u = IO::Socket::INET->new(Proto => 'udp', @at) or die "udp $port: $!";
        my $b; while (1) { defined $u->recv($b, 65535) and $u->send($b) }
    }
    if (!fork) {
        alarm 300;
        my $s = IO::Socket::INET->new(@at, Listen => 256, ReuseAddr => 1) or die "tcp $port: $!";
        while (1) {
            my $c = $s->accept or next;
            # The kernel asks after a second of silence whether the client is there, and then each second.
            setsockopt($c, SOL_SOCKET, SO_KEEPALIVE, 1); setsockopt($c, 6, $_, 1) for 4, 5;
            if (!fork) { alarm 60; syswrite $c, "hello\n"; while (sysread $c, my $b, 65536) { syswrite $c, $b } exit }
            close $c;
        }
    }
}
sleep 300;
"#;

/// Tries every target at once and says of each whether it is `open`, `refused` or `silent`. A target is
/// `tcp|udp|icmp address port [source]`. Refusal is an answer too: the packet got there.
const PROBE: &str = r#"
use Socket qw(:all); use Errno; $| = 1;
for my $target (@ARGV) {
    next if fork;
    my ($kind, $host, $port, $source) = split / /, $target;
    my $say = sub { print "$target=$_[0]\n"; exit };
    $SIG{ALRM} = sub { $say->('silent') }; alarm 2;
    my $type = $kind eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
    my ($error, $to) = getaddrinfo($host, $port, { socktype => $type, flags => AI_NUMERICHOST });
    $say->("wrong: $error") if $error;
    socket(my $s, $to->{family}, $type, $kind eq 'icmp' ? 1 : 0) or $say->("wrong: $!");
    if ($source) { bind($s, pack_sockaddr_in(0, inet_aton($source))) or $say->("wrong: $!") }
    if ($kind eq 'tcp') {
        $say->('open') if connect($s, $to->{addr});
        $say->($!{ECONNREFUSED} ? 'refused' : 'silent');
    }
    setsockopt($s, SOL_SOCKET, SO_BROADCAST, 1);
    my $what = $kind eq 'icmp' ? pack('CCnnn', 8, 0, 0, 0, 1) : $target;
    for (1..3) { send($s, $what, 0, $to->{addr}); select undef, undef, undef, 0.1 }
    while (1) {
        my $peer = recv($s, my $answer, 1500, 0) or next;
        # One's own broadcast comes back to oneself: what can be bound is one's own.
        if ($host =~ /\.255$/) {
            socket(my $own, PF_INET, SOCK_DGRAM, 0);
            next if bind($own, pack_sockaddr_in(0, (unpack_sockaddr_in($peer))[1]));
        }
        $say->('open');
    }
}
1 while wait > 0;
"#;

/// Where a probe is made from: what to put before its command.
pub type Place = Vec<String>;

/// The host itself.
pub fn host() -> Place {
    vec![]
}

/// One of the containers.
#[derive(Clone)]
pub struct Inmate {
    pub id: String,
    pub ip: Ipv4Addr,
    /// The host port that its port 22 is published at.
    pub port: u16,
}

impl Inmate {
    /// Within it, with what it is allowed.
    pub fn inside(&self) -> Place {
        words(&["docker", "exec", &self.id])
    }

    /// In its network, with all that the host's root may do there.
    pub fn network(&self) -> Place {
        let pid = run(&["docker", "inspect", "-f", "{{.State.Pid}}", &self.id]);
        words(&["nsenter", "-n", "-t", pid.trim()])
    }
}

/// The network, two containers, and the firewall, not yet applied.
pub struct Yard {
    pub a: Inmate,
    pub b: Inmate,
    pub network: NetworkSpec,
    pub nft: Nft,
    pub check_in: u16,
    pub door: u16,
    // Last, so that it is cleared when all else is gone.
    pub block: Block,
}

impl Yard {
    pub fn new() -> Self {
        Self::with_icc(false)
    }

    /// With `icc` the engine lets containers talk to each other, and our rules alone have to stop them.
    pub fn with_icc(icc: bool) -> Self {
        let block = Block::take();
        let network = block.network();
        run(&[
            "docker",
            "network",
            "create",
            "-o",
            &format!("com.docker.network.bridge.name={}", network.bridge),
            "-o",
            &format!("com.docker.network.bridge.enable_icc={icc}"),
            "--subnet",
            &network.subnet.to_string(),
            "--gateway",
            &network.gateway().to_string(),
            "--ip-range",
            &network.foreign().to_string(),
            &network.name,
        ]);
        let (check_in, door) = (block.ports().1, block.door());
        let nft = Nft::new(rules(&block)).unwrap();
        let start = |number: usize| inmate(&block, number, &network.name, network.addresses().nth(number), &[]);
        let (a, b) = (start(0), start(1));
        for inmate in [&a, &b] {
            until_open(&format!("tcp {} 22", inmate.ip));
        }
        Self { a, b, network, nft, check_in, door, block }
    }

    /// What its firewall is made of.
    pub fn rules(&self) -> Rules {
        rules(&self.block)
    }

    /// One more container, on our network or on another, with more options.
    pub fn another(&self, network: Option<&str>, options: &[&str]) -> Inmate {
        let ours = network.is_none();
        let address = ours.then(|| self.network.addresses().nth(2)).flatten();
        let inmate = inmate(&self.block, 2, network.unwrap_or(&self.network.name), address, options);
        until_open(&format!("tcp {} 22", inmate.ip));
        inmate
    }

    /// A free port of the block.
    pub fn port(&self, number: u16) -> u16 {
        self.block.ports().0 + 10 + number
    }

    /// The check-in listener, as a target.
    pub fn check_in(&self) -> String {
        format!("tcp {} {}", self.network.gateway(), self.check_in)
    }

    /// Gives a container what the engine never gives it: IPv6, with the host as its router.
    pub fn arm_with_ipv6(&self, inmate: &Inmate, number: u8) {
        let third = self.network.subnet.addr().octets()[2];
        let on_host = format!("fd99:{third:x}::1/64");
        run(&["ip", "-6", "addr", "replace", &on_host, "dev", &self.network.bridge, "nodad"]);
        // The link-local address is not used before it is known to be nobody else's.
        while !run(&["ip", "-6", "addr", "show", "dev", &self.network.bridge, "tentative"]).is_empty() {
            thread::sleep(Duration::from_millis(50));
        }
        let mut script = inmate.network();
        let own = format!("fd99:{third:x}::{number:x}/64");
        script.extend(words(&[
            "sh",
            "-ec",
            &format!(
                "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
                 ip -6 addr add {own} dev eth0 nodad; ip -6 route add default via fd99:{third:x}::1"
            ),
        ]));
        run(&script.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// See [`host_addresses`].
    pub fn host_addresses(&self) -> Vec<String> {
        host_addresses(&self.block)
    }
}

fn rules(block: &Block) -> Rules {
    let network = block.network();
    Rules {
        table: block.instance(),
        bridge: network.bridge.clone(),
        gateway: network.gateway(),
        check_in_port: block.ports().1,
        subnet: network.subnet,
        door: Some(Door { port: block.door(), published: Ipv6Addr::UNSPECIFIED.into() }),
    }
}

/// Every address of the host but loopback's, with those of other tests' networks left out: they come and go.
/// Link-local ones carry the scope they have within a container, and only our bridge's can be reached from there.
pub fn host_addresses(block: &Block) -> Vec<String> {
    let (instance, bridge) = (block.instance(), block.network().bridge);
    let links: serde_json::Value = serde_json::from_str(&run(&["ip", "-j", "addr"])).unwrap();
    let mut addresses = vec![];
    for link in links.as_array().unwrap() {
        let name = link["ifname"].as_str().unwrap();
        let ours = name == bridge;
        if name == "lo" || (name.starts_with("sdtest") && !name.starts_with(&instance)) {
            continue;
        }
        for address in link["addr_info"].as_array().unwrap() {
            let local = address["local"].as_str().unwrap();
            match address["scope"].as_str() {
                Some("link") if ours => addresses.push(format!("{local}%eth0")),
                Some("link") if local.contains(':') => {}
                _ => addresses.push(local.to_owned()),
            }
        }
    }
    addresses
}

fn inmate(block: &Block, number: usize, network: &str, address: Option<Ipv4Addr>, options: &[&str]) -> Inmate {
    let port = block.ports().0 + u16::try_from(number).unwrap();
    let label = format!("{}={}", birth::MANAGED, block.instance());
    let name = format!("{}-{number}", block.instance());
    let (tcp, udp) = (format!("{port}:22"), format!("{port}:22/udp"));
    let address = address.map(|a| format!("--ip={a}"));
    let mut command = vec!["docker", "run", "-d", "--init", "--label", &label, "--name", &name, "--network", network];
    command.extend(address.as_deref());
    command.extend(["-p", &tcp, "-p", &udp, "--cap-drop", "NET_RAW", "--cap-drop", "MKNOD", "--entrypoint", "perl"]);
    command.extend(options);
    command.extend([IMAGE, "-e", SERVER, "22"]);
    let id = run(&command).trim().to_owned();
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let ip = run(&["docker", "inspect", "-f", format, &id]).trim().parse().unwrap();
    Inmate { id, ip, port }
}

/// A listener of the test on the host, for TCP and UDP, which counts what reaches it and echoes.
pub struct Listener {
    connections: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    datagrams: Arc<AtomicUsize>,
}

impl Listener {
    pub fn new(address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let tcp = TcpListener::bind(address).unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let new = Self { connections: Arc::default(), bytes: Arc::default(), datagrams: Arc::default() };
        let (connections, bytes, datagrams) = (new.connections.clone(), new.bytes.clone(), new.datagrams.clone());
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let bytes = bytes.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        bytes.fetch_add(count, Ordering::SeqCst);
                        if stream.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((count, from)) = udp.recv_from(&mut buffer) {
                datagrams.fetch_add(1, Ordering::SeqCst);
                let _ = udp.send_to(&buffer[..count], from);
            }
        });
        new
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub fn datagrams(&self) -> usize {
        self.datagrams.load(Ordering::SeqCst)
    }
}

/// A network namespace beside the host, as another machine would be.
pub struct Outside {
    namespace: String,
    servers: Vec<Child>,
    pub host: Ipv4Addr,
    pub ip: Ipv4Addr,
    pub link: String,
}

impl Outside {
    pub fn new(yard: &Yard) -> Self {
        let instance = yard.block.instance();
        let third = yard.network.subnet.addr().octets()[2];
        let (host, ip) = (Ipv4Addr::new(198, 18, third, 1), Ipv4Addr::new(198, 18, third, 2));
        let new =
            Self { namespace: format!("{instance}-out"), servers: vec![], host, ip, link: format!("{instance}o") };
        // What a test that was killed left.
        new.clear();
        let (space, link) = (new.namespace.as_str(), new.link.as_str());
        run(&["ip", "netns", "add", space]);
        run(&["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space]);
        run(&["ip", "addr", "add", &format!("{host}/24"), "dev", link]);
        run(&["ip", "link", "set", link, "up"]);
        run(&["ip", "-n", space, "link", "set", "lo", "up"]);
        run(&["ip", "-n", space, "addr", "add", &format!("{ip}/24"), "dev", "eth0"]);
        run(&["ip", "-n", space, "link", "set", "eth0", "up"]);
        run(&["ip", "-n", space, "route", "add", "default", "via", &host.to_string()]);
        new
    }

    /// Puts the host's end behind a bridge of the host's own, as virtual machines are.
    pub fn behind_bridge(&mut self) {
        let bridge = format!("{}b", self.link);
        run(&["ip", "link", "add", &bridge, "type", "bridge"]);
        run(&["ip", "addr", "del", &format!("{}/24", self.host), "dev", &self.link]);
        run(&["ip", "addr", "add", &format!("{}/24", self.host), "dev", &bridge]);
        run(&["ip", "link", "set", &self.link, "master", &bridge]);
        run(&["ip", "link", "set", &bridge, "up"]);
    }

    /// Gives it an address, and the host a way there.
    pub fn own(&self, address: &str) {
        run(&["ip", "-n", &self.namespace, "addr", "add", &format!("{address}/32"), "dev", "lo"]);
        run(&["ip", "route", "replace", &format!("{address}/32"), "via", &self.ip.to_string()]);
    }

    /// Publishes its port 22 at a port of the host, as an administrator might for a machine that is no container.
    pub fn publish(&self, port: u16) {
        let to = format!("tcp dport {port} fib daddr type local dnat to {}:22", self.ip);
        let chain = format!("chain in {{ type nat hook prerouting priority dstnat; {to}\n}}");
        run(&["nft", &format!("table ip {} {{ {chain}\n}}", self.link)]);
    }

    /// Runs a perl program in it.
    pub fn serve(&mut self, program: &str, arguments: &[&str]) {
        let server = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "perl", "-e", program])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.servers.push(server);
    }

    pub fn inside(&self) -> Place {
        words(&["ip", "netns", "exec", &self.namespace])
    }

    fn clear(&self) {
        for pid in quiet(&["ip", "netns", "pids", &self.namespace]).split_whitespace() {
            quiet(&["kill", "-9", pid]);
        }
        quiet(&["nft", "delete", "table", "ip", &self.link]);
        quiet(&["ip", "link", "del", &self.link]);
        quiet(&["ip", "link", "del", &format!("{}b", self.link)]);
        quiet(&["ip", "netns", "del", &self.namespace]);
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.clear();
        for server in &mut self.servers {
            let _ = server.wait();
        }
    }
}

/// Probes all targets at once from a place: what each answered.
pub fn probe(from: &Place, targets: &[String]) -> BTreeMap<String, String> {
    let mut command = from.clone();
    command.extend(words(&["perl", "-e", PROBE, "--"]));
    command.extend(targets.iter().cloned());
    let output = run(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let answers: BTreeMap<String, String> =
        output.lines().filter_map(|line| line.rsplit_once('=')).map(|(t, a)| (t.to_owned(), a.to_owned())).collect();
    for target in targets {
        let answer = answers.get(target).unwrap_or_else(|| panic!("no word of {target}: {output}"));
        assert!(!answer.starts_with("wrong"), "{target}: {answer}");
    }
    answers
}

/// Asserts that every target is open.
#[track_caller]
pub fn assert_open(from: &Place, targets: &[String]) {
    let answers = probe(from, targets);
    assert!(answers.values().all(|a| a == "open"), "from {from:?}: {answers:#?}");
}

/// Asserts that no target gives any answer.
#[track_caller]
pub fn assert_silent(from: &Place, targets: &[String]) {
    let answers = probe(from, targets);
    assert!(answers.values().all(|a| a == "silent"), "from {from:?}: {answers:#?}");
}

/// Waits until the host reaches a target.
pub fn until_open(target: &str) {
    for _ in 0..50 {
        if probe(&host(), &[target.to_owned()])[target] == "open" {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{target} does not open");
}

/// Runs a perl program somewhere and answers what it wrote.
pub fn perl(from: &Place, program: &str, arguments: &[&str]) -> String {
    let mut command = from.clone();
    command.extend(words(&["perl", "-e", program, "--"]));
    command.extend(words(arguments));
    run(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts a perl program somewhere and waits for its first line.
pub fn start(from: &Place, program: &str, arguments: &[&str]) -> (Child, String) {
    let mut command = from.clone();
    command.extend(words(&["perl", "-e", program, "--"]));
    command.extend(words(arguments));
    let mut child = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

/// Runs a command that must succeed and answers what it wrote.
#[track_caller]
pub fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that may fail.
pub fn quiet(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a command succeeds, and what it complained of.
pub fn attempt(command: &[&str]) -> (bool, String) {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|&w| w.to_owned()).collect()
}
