//! Creates: one after the other, and many at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::Method;
use spindown::{engine::Engine, model::File};

use crate::{
    rival::Rival,
    support::{
        block::{Block, IMAGE},
        brew::Brew,
        server::{Server, SshKey},
    },
    table::{Aim, Row},
};

const ROUNDS: usize = 12;
const ROUNDS_AT_ONCE: usize = 3;
const AT_ONCE: usize = 24;
/// What goes on after a create, ours or theirs, is over then.
const PAUSE: Duration = Duration::from_millis(300);

/// What one create of the rival's took.
struct Theirs {
    answered: Duration,
    accepts: Duration,
}

async fn theirs(rival: &Rival, image: &str, inside: u16, keys: Option<&str>) -> Theirs {
    let begun = Instant::now();
    let blueprint = rival.blueprint(image, inside, 0);
    let id = rival.engine.create(&blueprint).await.unwrap();
    if let Some(keys) = keys {
        let content = Some(keys.as_bytes().to_vec());
        let file = File { path: ".ssh/authorized_keys".to_owned(), mode: 0o600, uid: 1000, gid: 1000, content };
        rival.engine.put_files(&id, "/home/student", &[file]).await.unwrap();
    }
    rival.engine.start(&id).await.unwrap();
    rival.engine.inspect(&id).await.unwrap();
    let answered = begun.elapsed();
    if inside == 22 {
        rival.accepts(0).await;
    }
    let accepts = begun.elapsed();
    tokio::time::sleep(PAUSE).await;
    rival.remove(&id).await;
    Theirs { answered, accepts }
}

async fn ours(server: &Server, image: &str, more: &str) -> Duration {
    let begun = Instant::now();
    let made = server.post("/v1/containers", &format!("image={image}&idle_timeout=never{more}")).await;
    let answered = begun.elapsed();
    assert_eq!(made.status, 201, "{:#}", made.json);
    tokio::time::sleep(PAUSE).await;
    let uri = made.json["uri"].as_str().unwrap();
    assert_eq!(server.call(Method::DELETE, uri, "").await.status, 204);
    answered
}

pub async fn measure() -> Vec<Row> {
    let block = Arc::new(Block::take());
    let server = Server::try_start(Arc::clone(&block), &[]).unwrap();
    let rival = Rival::meet(Arc::new(Block::take())).await;
    let mute = mute(&block);
    let key = SshKey::make();
    let with_key = format!("&authorized_keys={}", key.encoded());
    let kinds = [(mute.0.as_str(), 8080, None, ""), (IMAGE, 22, None, ""), (IMAGE, 22, Some(&key.public), &with_key)];
    let mut figures: [[Vec<Duration>; 3]; 3] = Default::default();
    // The first of each kind warms up.
    for round in 0..=ROUNDS {
        for ((image, inside, keys, more), figures) in kinds.iter().zip(&mut figures) {
            let ours = ours(&server, image, more).await;
            let theirs = theirs(&rival, image, *inside, keys.map(String::as_str)).await;
            if round > 0 {
                for (figures, figure) in figures.iter_mut().zip([ours, theirs.answered, theirs.accepts]) {
                    figures.push(figure);
                }
            }
        }
    }
    let [mute, ssh, keyed] = &figures;
    vec![
        Row::times("create, no SSH : create+start+inspect", &mute[0], &mute[1], Aim::AtMost(1.05)),
        Row::times("create, SSH answers : the same + until SSH answers", &ssh[0], &ssh[2], Aim::AtMost(1.05)),
        Row::times("create, SSH answers : create+start+inspect", &ssh[0], &ssh[1], Aim::AtMost(1.05)),
        Row::times(
            "create with a key : create+put+start+inspect+until SSH answers",
            &keyed[0],
            &keyed[2],
            Aim::AtMost(1.05),
        ),
    ]
}

/// An image that serves no SSH.
fn mute(block: &Arc<Block>) -> Brew {
    Brew::build(block, "mute", "FROM spindown/base\nEXPOSE 8080\nENTRYPOINT [\"sleep\", \"infinity\"]\n")
}

pub async fn measure_at_once() -> Vec<Row> {
    let block = Arc::new(Block::take());
    let server = Server::try_start(Arc::clone(&block), &settings()).unwrap();
    let rival = Rival::meet(Arc::new(Block::take())).await;
    let mute = mute(&block);
    let what = ["24 creates at once, no SSH : 24 docker run -d", "24 creates at once : 24 docker run -d"];
    let mut rows = Vec::new();
    for (what, image, inside) in [(what[0], mute.0.as_str(), 8080), (what[1], IMAGE, 22)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS_AT_ONCE {
            ours.push(ours_at_once(&server, image).await);
            theirs.push(theirs_at_once(&rival, image, inside).await);
        }
        rows.push(Row::times(what, &ours, &theirs, Aim::AtMost(1.0)));
    }
    rows
}

async fn ours_at_once(server: &Server, image: &str) -> Duration {
    let body = format!("image={image}&idle_timeout=never");
    let begun = Instant::now();
    let made = join_all((0..AT_ONCE).map(|_| server.post("/v1/containers", &body))).await;
    let took = begun.elapsed();
    tokio::time::sleep(PAUSE * 3).await;
    join_all(made.iter().map(|made| async {
        assert_eq!(made.status, 201, "{:#}", made.json);
        server.delete(made.json["uri"].as_str().unwrap()).await
    }))
    .await;
    took
}

async fn theirs_at_once(rival: &Rival, image: &str, inside: u16) -> Duration {
    let begun = Instant::now();
    let made = join_all((0..AT_ONCE).map(|number| rival.command(image, inside, number).status_of())).await;
    let took = begun.elapsed();
    assert!(made.iter().all(|done| *done));
    tokio::time::sleep(PAUSE * 3).await;
    rival.clear().await;
    took
}

/// How many starts are let in at once can be tried: `SPINDOWN_STARTS_AT_ONCE=8 make bench ONLY=at-once`.
fn settings() -> Vec<(&'static str, &'static str)> {
    let tried = std::env::var("SPINDOWN_STARTS_AT_ONCE").ok();
    tried.map(|number| ("SPINDOWN_STARTS_AT_ONCE", &*number.leak())).into_iter().collect()
}

/// A command that is waited for.
trait StatusOf {
    async fn status_of(self) -> bool;
}

impl StatusOf for tokio::process::Command {
    async fn status_of(mut self) -> bool {
        self.status().await.unwrap().success()
    }
}
