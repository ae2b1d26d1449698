//! The door: what it takes to wake a container by a connection, and what a connection is like then. All of it from
//! outside, as users come: on the engine's own way from there to a published port is no process, as there is on the one
//! over the loopback.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use spindown::{engine::Engine, model::EngineId};

use crate::{
    outside::{Order, Outside},
    rival::Rival,
    support::{
        block::{Block, IMAGE},
        brew::Brew,
        server::Server,
    },
    table::{Aim, Row},
    traffic,
};

pub const WAKES: u8 = 15;
/// What goes on after a start or a stop is over then.
pub const PAUSE: Duration = Duration::from_millis(150);
const GRACE: Duration = Duration::from_secs(10);

/// Answers each line, a number, with so many bytes. Written without the signs that a shell or JSON takes for its own.
const ECHO: &str = "use Socket qw(:all); $SIG{CHLD} = q(IGNORE); socket(my $door, PF_INET, SOCK_STREAM, 0) or die; \
    setsockopt($door, SOL_SOCKET, SO_REUSEADDR, 1); bind($door, sockaddr_in(8080, INADDR_ANY)) or die; \
    listen($door, 64) or die; my $some = q(x) x 262144; \
    while (accept(my $caller, $door)) { if (fork) { close $caller; next } \
        setsockopt($caller, IPPROTO_TCP, TCP_NODELAY, 1); \
        while (my $left = <$caller>) { while ($left > 0) { $left -= syswrite($caller, $some, $left) // exit } } \
        exit }";

/// One container of ours and one of the engine's alone, of one image.
pub struct Pair {
    pub hello: &'static str,
    uri: String,
    pub id: String,
    pub port: u16,
    pub their_id: EngineId,
    their_port: u16,
}

/// Where it is measured.
pub struct Place {
    // Dropped first: who is connected leaves before what he is connected to is removed.
    pub outside: Outside,
    server: Server,
    rival: Rival,
}

impl Place {
    /// Makes a pair. Ours goes to sleep by itself; theirs was never up.
    async fn pair(&self, image: &str, inside: u16, number: usize, hello: &'static str) -> Pair {
        // Long enough that none goes down while the others are measured.
        let made = self.server.post("/v1/containers", &format!("image={image}&idle_timeout=2s")).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        let blueprint = self.rival.blueprint(image, inside, number);
        Pair {
            hello,
            uri: made.json["uri"].as_str().unwrap().to_owned(),
            id: made.json["container_id"].as_str().unwrap().to_owned(),
            port: made.json["ports"][0]["host_port"].as_u64().unwrap().try_into().unwrap(),
            their_id: self.rival.engine.create(&blueprint).await.unwrap(),
            their_port: blueprint.ports[0].host,
        }
    }

    /// Waits until ours sleeps.
    pub async fn asleep(&self, pair: &Pair) {
        let seen = self.server.wait_for(&pair.uri, "stopped", |answer| answer.json["status"] == "stopped").await;
        assert_eq!(seen.json["stopped_by"], "idle", "{:#}", seen.json);
    }

    /// By a connection, to the first byte of the answer. The connection stays.
    pub async fn wake_ours(&mut self, pair: &Pair, number: u8) -> Duration {
        let begun = Instant::now();
        let tries = self.outside.connect("ours", number, pair.port, pair.hello).await;
        let took = begun.elapsed();
        assert_eq!(tries, 1, "the door lost a connection: {}", self.server.log());
        took
    }

    /// The same by a start. The connection stays.
    pub async fn wake_theirs(&mut self, pair: &Pair, number: u8) -> Duration {
        let begun = Instant::now();
        self.rival.engine.start(&pair.their_id).await.unwrap();
        self.outside.connect("theirs", number, pair.their_port, pair.hello).await;
        begun.elapsed()
    }

    async fn end(&mut self, name: &str) {
        self.outside.tell(&Order::End { name: name.to_owned() }).await;
    }
}

pub async fn measure() -> Vec<Row> {
    // Dropped after the blocks, and so after the containers that were made of it.
    let echo;
    let block = Arc::new(Block::take());
    let server = Server::try_start(Arc::clone(&block), &[("SPINDOWN_IDLE_SWEEP", "1s")]).unwrap();
    let rival = Rival::meet(Arc::new(Block::take())).await;
    echo = brew_echo(&block);
    let outside = Outside::new(&block);
    let mut place = Place { outside, server, rival };
    let pairs = [place.pair(&echo.0, 8080, 0, "1\n").await, place.pair(IMAGE, 22, 1, "SSH-2.0-bench\r\n").await];
    let mut rows = wakes(&mut place, &pairs).await;
    rows.extend(traffic::measure(&mut place, &pairs[0]).await);
    rows
}

/// An image that answers as soon as it is up.
pub fn brew_echo(block: &Block) -> Brew {
    let lines = format!("FROM spindown/base\nEXPOSE 8080\nENTRYPOINT [\"perl\", \"-e\", \"{ECHO}\"]\n");
    Brew::build(block, "echo", &lines)
}

/// From stopped to the first byte.
async fn wakes(place: &mut Place, pairs: &[Pair; 2]) -> Vec<Row> {
    let mut figures: [[Vec<Duration>; 2]; 2] = Default::default();
    // The first round warms up: theirs makes its keys.
    for round in 0..=WAKES {
        for pair in pairs {
            place.asleep(pair).await;
        }
        for (pair, figures) in pairs.iter().zip(&mut figures) {
            tokio::time::sleep(PAUSE).await;
            // Each time from elsewhere: whoever has woken one for nothing three times is made to wait.
            let ours = place.wake_ours(pair, round).await;
            place.end("ours").await;
            tokio::time::sleep(PAUSE).await;
            let theirs = place.wake_theirs(pair, round).await;
            place.end("theirs").await;
            if round > 0 {
                figures[0].push(ours);
                figures[1].push(theirs);
            }
        }
        for pair in pairs {
            place.rival.engine.stop(&pair.their_id, GRACE).await.unwrap();
        }
    }
    let [echo, ssh] = &figures;
    vec![
        Row::times("wake by a connection, first byte : start + first byte", &echo[0], &echo[1], Aim::AtMost(1.15)),
        Row::times("wake by ssh, first byte : start + first byte", &ssh[0], &ssh[1], Aim::AtMost(1.15)),
    ]
}
