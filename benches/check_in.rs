//! Check-ins: how many a second the listener for them takes, beside an empty route of the same server. Thousands of
//! containers, each at a loopback address of its own, keep a connection open each, since one container may send only
//! five a second.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rocket::{figment::Figment, http::Status, post, routes};
use spindown::{engine::NetworkSpec, http, reconcile, service::Spindown, store::embedded::Embedded};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    sweep::simulated,
    table::{Aim, Row, milliseconds},
};

const CONTAINERS: usize = 4_000;
/// So many requests are under way at once.
const WORKERS: usize = 32;
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(2);

#[post("/empty")]
fn empty() -> Status {
    Status::NoContent
}

/// Serves check-ins, and the empty route, on a free port.
async fn serve(spindown: Arc<Spindown>) -> (rocket::Shutdown, u16) {
    let figment = Figment::from(rocket::Config::default())
        .merge(("address", "127.0.0.1"))
        .merge(("port", 0))
        .merge(("keep_alive", 60))
        .merge(("log_level", "off"));
    let (told, tells) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let server = http::check_in_server(figment, spindown).mount("/", routes![empty]).attach(
        rocket::fairing::AdHoc::on_liftoff("port", move |rocket| {
            let _ = told.lock().unwrap().take().unwrap().send((rocket.shutdown(), rocket.config().port));
            Box::pin(async {})
        }),
    );
    tokio::spawn(server.launch());
    tells.await.unwrap()
}

/// One container's connection.
async fn connect(source: Ipv4Addr, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request, and answers whether it was served.
async fn call(stream: &mut TcpStream, request: &[u8]) -> bool {
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 1024];
    let mut length = 0;
    // An answer that is served has no body, and a refused one is short: it comes in one piece with its head.
    while !answer[..length].windows(4).any(|four| four == b"\r\n\r\n") {
        let read = stream.read(&mut answer[length..]).await.unwrap();
        assert!(read > 0, "the server closed the connection");
        length += read;
    }
    answer.starts_with(b"HTTP/1.1 204")
}

/// What came of a round.
#[derive(Default)]
struct Round {
    times: Vec<Duration>,
    refused: usize,
}

/// Sends requests for a while, over all connections in turn.
async fn round(crews: &mut Vec<Vec<TcpStream>>, path: &str) -> (f64, Round) {
    let body = "active-connections=1";
    let request: Arc<[u8]> = format!(
        "POST {path} HTTP/1.1\r\nHost: spindown\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into();
    let over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let workers: Vec<_> = crews
        .drain(..)
        .map(|mut crew| {
            let (request, over) = (Arc::clone(&request), Arc::clone(&over));
            tokio::spawn(async move {
                let mut round = Round::default();
                'all: loop {
                    for stream in &mut crew {
                        if over.load(Ordering::Relaxed) {
                            break 'all;
                        }
                        let begun = Instant::now();
                        if call(stream, &request).await {
                            round.times.push(begun.elapsed());
                        } else {
                            round.refused += 1;
                        }
                    }
                }
                (crew, round)
            })
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Round::default();
    for worker in workers {
        let (crew, round) = worker.await.unwrap();
        crews.push(crew);
        all.times.extend(round.times);
        all.refused += round.refused;
    }
    (all.times.len() as f64 / begun.elapsed().as_secs_f64(), all)
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

pub async fn measure() -> Vec<Row> {
    let subnet = "127.64.0.0/16".parse().unwrap();
    let network = NetworkSpec { name: "bench".to_owned(), bridge: "bench".to_owned(), subnet };
    let sources: Vec<Ipv4Addr> = network.addresses().take(CONTAINERS).collect();
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(folder.path()).unwrap());
    let spindown = simulated(CONTAINERS, network, store).await;
    let writer = tokio::spawn(reconcile::touch::run(Arc::clone(&spindown)));
    let (shutdown, port) = serve(Arc::clone(&spindown)).await;
    let mut crews: Vec<Vec<TcpStream>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for (number, source) in sources.into_iter().enumerate() {
        crews[number % WORKERS].push(connect(source, port).await);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_times, mut their_times, mut refused) = (Vec::new(), Vec::new(), 0);
    for number in 0..=ROUNDS {
        let (rate, mut round_of_ours) = round(&mut crews, "/v1/check-in").await;
        let (empty_rate, mut round_of_theirs) = round(&mut crews, "/empty").await;
        if number > 0 {
            ours.push(rate);
            theirs.push(empty_rate);
            our_times.append(&mut round_of_ours.times);
            their_times.append(&mut round_of_theirs.times);
            refused += round_of_ours.refused;
        }
    }
    shutdown.notify();
    spindown.close(Duration::from_secs(1)).await;
    let _ = writer.await;
    if refused > 0 {
        eprintln!("{refused} check-ins were refused as too many; they are not counted");
    }
    let middle = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (ours, theirs) = (middle(&mut ours), middle(&mut theirs));
    let (our_p99, their_p99) = (p99(&mut our_times), p99(&mut their_times));
    vec![
        Row::ratio(
            "check-ins a second : an empty route",
            format!("{ours:.0}/s"),
            format!("{theirs:.0}/s"),
            ours / theirs,
            Aim::AtLeast(0.8),
        ),
        Row::ratio(
            "the slowest of 100 check-ins : of 100 empty",
            milliseconds(our_p99),
            milliseconds(their_p99),
            our_p99.as_secs_f64() / their_p99.as_secs_f64(),
            Aim::None,
        ),
    ]
}
