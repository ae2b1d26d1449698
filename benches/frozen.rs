//! Frozen containers: what a hundred of them cost the server while nothing comes, and how long whoever comes for one waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use spindown::engine::Engine;

use crate::{
    door::brew_echo,
    outside::{Order, Outside},
    rival::Rival,
    support::{block::Block, server::Server},
    table::{Aim, Row},
};

const MANY: u8 = 100;
const THEIRS: u8 = 20;
const AT_ONCE: usize = 4;
/// For how long nothing comes.
const QUIET: Duration = Duration::from_secs(20);
const HELLO: &str = "1\n";
/// The kernel counts processor time in these.
const TICKS_A_SECOND: f64 = 100.0;

pub async fn measure() -> Vec<Row> {
    // Dropped after the block, and so after the containers that were made of it.
    let echo;
    let block = Arc::new(Block::take_wide());
    let server = Server::try_start(Arc::clone(&block), &[]).unwrap();
    let rival = Rival::meet(Arc::new(Block::take())).await;
    echo = brew_echo(&block);
    let mut outside = Outside::new(&block);
    let made = stream::iter(0..MANY).map(async |_| {
        let made = server.post("/v1/containers", &format!("image={}&memory=32m", echo.0)).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        (
            made.json["uri"].as_str().unwrap().to_owned(),
            u16::try_from(made.json["ports"][0]["host_port"].as_u64().unwrap()).unwrap(),
        )
    });
    let made: Vec<_> = made.buffer_unordered(AT_ONCE).collect().await;
    for (uri, _) in &made {
        let frozen = server.patch(uri, "status=frozen").await;
        assert_eq!(frozen.json["status"], "frozen", "{:#}", frozen.json);
    }
    let (before, begun) = (processor(&server), Instant::now());
    tokio::time::sleep(QUIET).await;
    let share = (processor(&server) - before) / begun.elapsed().as_secs_f64() * 100.0;

    let mut ours = Vec::new();
    for (number, (_, port)) in (0..MANY).zip(&made) {
        let begun = Instant::now();
        assert_eq!(outside.connect("ours", number, *port, HELLO).await, 1, "{}", server.log());
        ours.push(begun.elapsed());
        outside.tell(&Order::End { name: "ours".to_owned() }).await;
    }
    let blueprint = rival.blueprint(&echo.0, 8080, 0);
    let id = rival.engine.create(&blueprint).await.unwrap();
    rival.engine.start(&id).await.unwrap();
    outside.connect("theirs", 200, blueprint.ports[0].host, HELLO).await;
    outside.tell(&Order::End { name: "theirs".to_owned() }).await;
    let mut theirs = Vec::new();
    for number in 0..THEIRS {
        rival.engine.freeze(&id).await.unwrap();
        let begun = Instant::now();
        rival.engine.thaw(&id).await.unwrap();
        outside.connect("theirs", number, blueprint.ports[0].host, HELLO).await;
        theirs.push(begun.elapsed());
        outside.tell(&Order::End { name: "theirs".to_owned() }).await;
    }
    ours.sort_unstable();
    let at = |share: usize| ours[(ours.len() * share / 100).min(ours.len() - 1)].as_secs_f64() * 1e3;
    vec![
        Row::times("from frozen, connect to first byte : unpause + first byte", &ours, &theirs, Aim::None),
        Row::figure("from frozen, 100 watched, p50", at(50), "ms", Aim::AtMost(50.0)),
        Row::figure("from frozen, 100 watched, p99", at(99), "ms", Aim::AtMost(200.0)),
        Row::figure("100 frozen and nothing comes, of one processor", share, "%", Aim::AtMost(1.0)),
    ]
}

/// The seconds that processors have worked for the server.
fn processor(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // The fourteenth and fifteenth of all, of which two stand before the bracket.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS_A_SECOND
}
