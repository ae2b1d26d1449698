//! The looks: each has a deadline, and none changes anything.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::{StreamExt, stream};
use ipnet::Ipv4Net;
use serde_json::Value;
use spindown::{
    clock::{Clock, SystemClock},
    config::Loaded,
    engine::{Engine, docker::Description},
    firewall::{Firewall, nft::Nft},
    model::{Error, Image, Kind, Result},
    store::{
        backup::Head,
        embedded::{self, Embedded},
        redis::{self, Redis},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::super::adapters;

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const ANSWER: u64 = 64 << 10;
/// How many containers are inspected at once.
const AT_ONCE: usize = 8;
/// The image that comes along.
pub(super) const IMAGE: &str = "spindown/ssh";

/// Who is met where the API listens.
#[derive(Debug)]
pub(super) enum Api {
    /// Nobody.
    Nobody,
    /// A Spindown, with what it says is failing.
    Spindown { failing: Vec<String> },
    /// Somebody who does not answer.
    Silent,
    /// Somebody else.
    Stranger,
}

/// How the store was met.
#[derive(Debug)]
pub(super) enum StoreSeen {
    /// A file that nobody has open.
    File(Result<embedded::Seen>),
    /// A file that a server has open: how many containers it tells of.
    Served(Result<usize>),
    /// In Redis.
    Redis(Result<redis::Seen>),
}

/// The space on a disk.
#[derive(Debug)]
pub(super) struct Space {
    /// The folder that was asked about.
    pub(super) path: PathBuf,
    /// What is free, in bytes.
    pub(super) free: u64,
}

/// Does a look within the deadline.
async fn bounded<T>(look: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::unavailable(format!("no answer within {} s", DEADLINE.as_secs())));
    timeout(DEADLINE, look).await.unwrap_or_else(late)
}

/// The same for what may block: a disk can hang too.
async fn blocking<T: Send + 'static>(look: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |e| Err(Error::new(Kind::Internal, "the look failed").caused_by(e));
    bounded(async { tokio::task::spawn_blocking(look).await.unwrap_or_else(failed) }).await
}

/// Who listens at the API's address.
pub(super) async fn api(address: SocketAddr) -> Api {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let ask = async {
        let mut stream = TcpStream::connect((host, address.port())).await.ok()?;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.take(ANSWER).read_to_string(&mut answer).await
        };
        // What was read before an error tells as much.
        let _ = asked.await;
        Some(answer)
    };
    match timeout(DEADLINE, ask).await {
        Ok(None) => Api::Nobody,
        Ok(Some(answer)) => understood(&answer),
        Err(_) => Api::Silent,
    }
}

/// What an answer of `/health` says.
pub(super) fn understood(answer: &str) -> Api {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let health: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(checks) = health["checks"].as_object() else { return Api::Stranger };
    let failing = checks.iter().filter(|(_, check)| check["ok"] != true);
    let failing = failing.map(|(part, check)| format!("{part}: {}", check["message"].as_str().unwrap_or("failing")));
    Api::Spindown { failing: failing.collect() }
}

/// The engine, and by how many seconds its clock is off.
pub(super) async fn engine(loaded: &Loaded) -> Result<(Description, Option<u64>)> {
    let described = bounded(async { adapters::engine(loaded)?.describe().await }).await?;
    let now = SystemClock::new().now().at;
    let skew = described.time.map(|time| (now - time).whole_seconds().unsigned_abs());
    Ok((described, skew))
}

/// Whether the network is there, and where the machine's routes lead.
pub(super) async fn network(loaded: &Loaded) -> (Result<bool>, Vec<(Ipv4Net, String)>) {
    let there = bounded(async { adapters::engine(loaded)?.has_network(&loaded.network()).await }).await;
    (there, routes(&fs::read_to_string("/proc/net/route").unwrap_or_default()))
}

/// The routes of the kernel's table, with their interfaces.
pub(super) fn routes(table: &str) -> Vec<(Ipv4Net, String)> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = |n: usize| u32::from_str_radix(words.get(n)?, 16).ok().map(|v| Ipv4Addr::from(v.swap_bytes()));
        let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        Some((net, (*words.first()?).to_owned()))
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// Whether the firewall's tables are there.
pub(super) async fn rules(loaded: &Loaded) -> Result<bool> {
    if !loaded.config.firewall.enabled {
        return Ok(false);
    }
    bounded(async { Nft::new(adapters::rules(loaded))?.is_there().await }).await
}

/// What others have put in the way of the door.
pub(super) async fn obstacle(loaded: &Loaded) -> Result<Option<String>> {
    if loaded.door().is_none() {
        return Ok(None);
    }
    bounded(async { Nft::new(adapters::rules(loaded))?.obstacle().await }).await
}

/// Who listens on this machine, and which ports are our containers'.
pub(super) async fn listeners(loaded: &Loaded) -> (Vec<SocketAddr>, Result<BTreeSet<u16>>) {
    let own = bounded(async {
        let engine = &adapters::engine(loaded)?;
        let seen = stream::iter(engine.list().await?)
            .map(|listed| async move { engine.inspect(&listed.engine_id).await })
            .buffer_unordered(AT_ONCE);
        // One that goes meanwhile holds no port.
        let ports = seen.filter_map(|seen| async { seen.ok() }).flat_map(|seen| stream::iter(seen.ports));
        Ok(ports.map(|port| port.host).collect().await)
    });
    let own = own.await;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    (tables.iter().flat_map(|table| listening(table)).collect(), own)
}

/// The listening sockets of the kernel's table.
pub(super) fn listening(table: &str) -> Vec<SocketAddr> {
    let read = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        (words.nth(1)? == "0A").then_some(())?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let ip: IpAddr = match address.len() {
            8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.swap_bytes()).into(),
            32 => {
                let part = |n: usize| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::swap_bytes);
                let bits = (0..4).try_fold(0_u128, |bits, n| Some(bits << 32 | u128::from(part(n)?)))?;
                Ipv6Addr::from(bits).to_canonical()
            }
            _ => return None,
        };
        Some((ip, port).into())
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// The ports that the kernel gives to outgoing connections.
pub(super) fn ephemeral() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_whitespace().map_while(|t| t.parse().ok());
    Some(bounds.next()?..=bounds.next()?)
}

/// The store.
pub(super) async fn store(loaded: &Loaded) -> StoreSeen {
    let instance = loaded.config.instance.to_string();
    if let Some(url) = &loaded.config.redis_url {
        return StoreSeen::Redis(bounded(Redis::look(url, &instance)).await);
    }
    let folder = loaded.config.data.path().to_owned();
    let looked = folder.clone();
    match blocking(move || Embedded::look(&looked)).await {
        Err(error) if error.kind() == Kind::Conflict => {
            let head = Head::new(instance, SystemClock::new().now().at);
            StoreSeen::Served(bounded(Embedded::ask(&folder, &head)).await.map(|contents| contents.containers.len()))
        }
        seen => StoreSeen::File(seen),
    }
}

/// Whether a time service keeps the clock, where that can be told.
pub(super) async fn time() -> Option<bool> {
    match output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).await.ok()?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The space for a folder, or for the nearest one above that is there.
pub(super) async fn disk(folder: &Path) -> Result<Space> {
    let folder = folder.to_owned();
    let path = blocking(move || {
        let whole = std::path::absolute(&folder).unwrap_or(folder);
        whole.ancestors().find(|p| p.exists()).map(Path::to_owned).ok_or_else(|| Error::not_found("there is no folder"))
    });
    let path = path.await?;
    let told = output("df", &["--block-size=1", "--output=avail", "--", &path.to_string_lossy()]).await?;
    let free = told.lines().nth(1).and_then(|line| line.trim().parse().ok());
    let free = free.ok_or_else(|| Error::unavailable("df does not tell the free space"))?;
    Ok(Space { path, free })
}

/// The space for the engine's folder, if that is on this machine.
pub(super) async fn engine_disk(loaded: &Loaded, engine: &Result<(Description, Option<u64>)>) -> Option<Result<Space>> {
    let root = engine.as_ref().ok()?.0.root.clone()?;
    let local = loaded.config.engine.as_str().starts_with("unix://") && Path::new(&root).exists();
    if local { Some(disk(Path::new(&root)).await) } else { None }
}

/// The image that comes along.
pub(super) async fn image(loaded: &Loaded) -> Result<Image> {
    bounded(async { adapters::engine(loaded)?.image(IMAGE).await }).await
}

/// The files that hold a secret, with their modes.
pub(super) async fn secrets(loaded: &Loaded) -> Vec<(PathBuf, u32)> {
    let url = loaded.config.redis_url.as_deref();
    if loaded.config.auth.password_hash.is_none() && !url.is_some_and(|url| url.contains('@')) {
        return Vec::new();
    }
    let files = loaded.figment.metadata().filter_map(|m| Some(m.source.as_ref()?.file_path()?.to_owned()));
    let files: BTreeSet<PathBuf> = files.collect();
    let modes = files.into_iter().filter_map(|path| {
        let text = fs::read_to_string(&path).ok()?;
        let mode = fs::metadata(&path).ok()?.permissions().mode();
        (text.contains("password_hash") || text.contains("redis_url")).then_some((path, mode))
    });
    modes.collect()
}

/// What a command writes.
async fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let failed = |e| Error::unavailable(format!("{program} cannot be run")).caused_by(e);
    let output = bounded(async { command.output().await.map_err(failed) }).await?;
    if !output.status.success() {
        return Err(Error::unavailable(format!("{program} failed")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
