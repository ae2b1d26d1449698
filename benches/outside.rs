//! A client outside: a network namespace beside the host, as another machine would be, and in it a process of the
//! bench's own that connects and measures as it is told. Each order is a line of JSON; each answer is a number.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpSocket,
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    support::{block::Block, server::run},
    table::median,
};

/// What has the bench's binary be the client.
pub const VERB: &str = "--outside";
/// How long a client waits before it tries again …
const TRY_EVERY: Duration = Duration::from_millis(2);
/// … and after how long it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client is told.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// To connect, say `hello` and await the first byte of the answer, again and again until there is one. The connection
    /// then has this name. Answered with how many it took.
    Connect { name: String, from: Ipv4Addr, to: SocketAddrV4, hello: String },
    /// To ask the echo server at this connection's end for so many bytes, and take them. Answered with nanoseconds.
    Take { name: String, bytes: u64 },
    /// To ask for one byte so often. Answered with the median in nanoseconds.
    Ask { name: String, times: usize },
    /// To end this connection.
    End { name: String },
}

/// The namespace, with the client in it. Both are gone when this is dropped.
pub struct Outside {
    namespace: String,
    link: String,
    host: Ipv4Addr,
    client: Option<(Child, ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

impl Outside {
    /// One that belongs to this block.
    pub fn new(block: &Block) -> Self {
        let instance = block.instance();
        let third = block.network().subnet.addr().octets()[2];
        let host = Ipv4Addr::new(198, 18, third, 1);
        let mut new = Self { namespace: format!("{instance}-out"), link: format!("{instance}o"), host, client: None };
        // What a run that was killed left.
        new.clear();
        let (space, link) = (new.namespace.as_str(), new.link.as_str());
        run("ip", &["netns", "add", space]);
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space]);
        run("ip", &["addr", "add", &format!("{host}/24"), "dev", link]);
        run("ip", &["link", "set", link, "up"]);
        run("ip", &["-n", space, "link", "set", "lo", "up"]);
        run("ip", &["-n", space, "addr", "add", &format!("{}/24", new.address(0)), "dev", "eth0"]);
        run("ip", &["-n", space, "link", "set", "eth0", "up"]);
        // All of these are its own, so that it can be somebody else each time.
        run("ip", &["-n", space, "route", "add", "local", &format!("{}/25", new.address(0)), "dev", "lo"]);
        let mut client = tokio::process::Command::new("ip")
            .args(["netns", "exec", space])
            // Always on the same processor, so that turns are alike.
            .args(["taskset", "-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (orders, answers) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        new.client = Some((client, orders, BufReader::new(answers).lines()));
        new
    }

    /// One of the client's 128 addresses.
    fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.host.octets();
        Ipv4Addr::new(a, b, c, 128 + number % 128)
    }

    /// Has the client connect to a port of the host from the address of this number; see [`Order::Connect`].
    pub async fn connect(&mut self, name: &str, number: u8, port: u16, hello: &str) -> u64 {
        let (from, to) = (self.address(number), SocketAddrV4::new(self.host, port));
        self.tell(&Order::Connect { name: name.to_owned(), from, to, hello: hello.to_owned() }).await
    }

    /// From now on what goes to the client takes a line of 1 Gbit/s.
    pub fn narrow(&self) {
        let line = ["rate", "1gbit", "burst", "256kb", "latency", "50ms"];
        run("tc", &[&["qdisc", "add", "dev", self.link.as_str(), "root", "tbf"], &line[..]].concat());
    }

    /// Tells the client something, and answers what it does.
    pub async fn tell(&mut self, order: &Order) -> u64 {
        let (_, orders, answers) = self.client.as_mut().unwrap();
        let line = serde_json::to_string(order).unwrap() + "\n";
        orders.write_all(line.as_bytes()).await.unwrap();
        let answer = answers.next_line().await.unwrap();
        answer.expect("the client outside has ended").parse().unwrap()
    }

    fn clear(&self) {
        for arguments in [["link", "del", &self.link], ["netns", "del", &self.namespace]] {
            let _ = Command::new("ip").args(arguments).output();
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its connections end while there is a way to say so: who carries one would go on asking for it for minutes.
        if let Some((mut client, ..)) = self.client.take() {
            let _ = client.start_kill();
            while let Ok(None) = client.try_wait() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.clear();
    }
}

/// The client: does what it is told until nobody tells it anything.
pub async fn obey() {
    let mut open = HashMap::new();
    for line in io::stdin().lines() {
        let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Connect { name, from, to, hello } => {
                let (stream, tries) = until_answered(from, to, &hello).await;
                open.insert(name, stream);
                tries
            }
            Order::Take { name, bytes } => take(&open[&name], bytes),
            Order::Ask { name, times } => ask(&open[&name], times),
            Order::End { name } => {
                open.remove(&name);
                0
            }
        };
        println!("{answer}");
    }
}

/// The connection that was answered, and how many were tried.
async fn until_answered(from: Ipv4Addr, to: SocketAddrV4, hello: &str) -> (TcpStream, u64) {
    let begun = Instant::now();
    for tries in 1.. {
        match answered(from, to, hello).await {
            Ok(stream) => return (stream, tries),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "nobody answers at {to}: {error}"),
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    unreachable!()
}

async fn answered(from: Ipv4Addr, to: SocketAddrV4, hello: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddrV4::new(from, 0).into())?;
    let mut stream = socket.connect(to.into()).await?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(hello.as_bytes())?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

fn take(mut stream: &TcpStream, bytes: u64) -> u64 {
    let mut room = vec![0; 256 << 10];
    let begun = Instant::now();
    stream.write_all(format!("{bytes}\n").as_bytes()).unwrap();
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(&mut room).unwrap();
        assert!(read > 0, "the connection ended before all of it had come");
        left -= read as u64;
    }
    nanoseconds(begun.elapsed())
}

fn ask(mut stream: &TcpStream, times: usize) -> u64 {
    let took: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            stream.write_all(b"1\n").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            begun.elapsed()
        })
        .collect();
    nanoseconds(median(&took))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}
