//! Five hundred containers: their list, the server's memory, its start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use spindown::{engine::Engine, model::birth};

use crate::{
    rival::Rival,
    support::{block::Block, brew::Brew, server::Server},
    table::{Aim, Row, median},
};

const MANY: usize = 500;
const LISTS: usize = 20;
const STARTS: usize = 5;
/// How many are made at once.
const AT_ONCE: usize = 6;

/// The engine's own list of the containers of this instance, as text.
async fn their_list(engine: &reqwest::Client, instance: &str) -> usize {
    let filters = format!("%7B%22label%22%3A%5B%22{}%3D{instance}%22%5D%7D", birth::MANAGED);
    let list = engine.get(format!("http://localhost/containers/json?all=1&filters={filters}")).send().await.unwrap();
    assert_eq!(list.status(), 200);
    list.text().await.unwrap().matches("\"Id\":").count()
}

async fn our_list(server: &Server) -> usize {
    let request = server.request(reqwest::Method::GET, "/v1/containers", "");
    let list = request.basic_auth("admin", Some("spindocker")).send().await.unwrap();
    assert_eq!(list.status(), 200);
    list.text().await.unwrap().matches("\"container_id\":").count()
}

/// Starts a server, and waits until it says that all is well.
async fn start(block: &Arc<Block>, before: Option<Server>) -> (Server, Duration) {
    let begun = Instant::now();
    let server = match before {
        Some(mut before) => {
            before.end_with("TERM");
            let begun_again = Instant::now();
            let server = before.start_again(&[]);
            return (server.well().await, begun_again.elapsed());
        }
        None => Server::try_start(Arc::clone(block), &[]).unwrap(),
    };
    (server.well().await, begun.elapsed())
}

impl Server {
    /// Itself, once all is well.
    async fn well(self) -> Self {
        while self.get("/health").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self
    }
}

pub async fn measure() -> Vec<Row> {
    let block = Arc::new(Block::take_wide());
    let (mut server, mut empty) = (None, Vec::new());
    for _ in 0..STARTS {
        let (started, took) = start(&block, server.take()).await;
        empty.push(took);
        server = Some(started);
    }
    drop(server);

    let brief = Brew::build(&block, "brief", "FROM spindown/base\nEXPOSE 22\nENTRYPOINT [\"true\"]\n");
    let rival = Rival::meet(Arc::clone(&block)).await;
    stream::iter(0..MANY)
        .map(async |number| {
            let id = rival.engine.create(&rival.blueprint(&brief.0, 22, number)).await.unwrap();
            rival.engine.start(&id).await.unwrap();
        })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;

    let (mut server, mut full) = (None, Vec::new());
    for round in 0..=STARTS {
        let (started, took) = start(&block, server.take()).await;
        // The first adopts them all; later ones find them in the store.
        if round > 0 {
            full.push(took);
        }
        server = Some(started);
    }
    let server = server.unwrap();
    let engine = reqwest::Client::builder().unix_socket("/var/run/docker.sock").build().unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..LISTS {
        let begun = Instant::now();
        assert_eq!(our_list(&server).await, MANY);
        ours.push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(their_list(&engine, &block.instance()).await, MANY);
        theirs.push(begun.elapsed());
    }
    let memory = server.memory() as f64 / (1 << 20) as f64;
    let start = |what, times: &[Duration]| Row::figure(what, median(times).as_secs_f64() * 1e3, "ms", Aim::None);
    vec![
        Row::speed("list of 500 : the engine's own (times faster)", &ours, &theirs, Aim::AtLeast(50.0)),
        Row::figure("memory of the server with 500", memory, "MiB", Aim::AtMost(40.0)),
        start("start to healthy, none", &empty),
        start("start to healthy, 500", &full),
    ]
}
