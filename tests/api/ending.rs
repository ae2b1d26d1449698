//! How a server ends: at once when nothing is asked of it, and not before it has answered what is.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use futures::future::join;
use tokio::time::{Instant, timeout};

use super::{light_image, text};
use crate::support::server::{SOON, Server, run};

/// A connection on which a request has been answered, kept open.
fn kept_open(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: spindown\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    stream
}

#[tokio::test]
async fn open_connections_hold_nothing_up() {
    let mut server = Server::start(&[]);
    let gateway = format!("{}:80", server.block.network().gateway());
    let address = server.url.trim_start_matches("http://").to_owned();
    let _open = [kept_open(&address), kept_open(&gateway), TcpStream::connect(&address).unwrap()];
    let begun = Instant::now();
    assert!(server.end_with("TERM").success());
    assert!(begun.elapsed().as_secs() < 5, "{:?}\n{}", begun.elapsed(), server.log());
}

#[tokio::test]
async fn what_is_under_way_is_finished() {
    let mut server = Server::start(&[]);
    let body = format!("image={}", light_image());
    let filter = format!("label=spindown.managed={}", server.block.instance());
    let made = || run("docker", &["ps", "-aq", "--no-trunc", "--filter", &filter]);
    let end = async {
        let begun = async {
            while made().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, begun).await.expect("a container is being made");
        server.signal("TERM");
    };
    let (answer, ()) = join(server.post("/v1/containers", &body), end).await;
    assert_eq!((answer.status, &answer.json["status"]), (201, &"running".into()), "{:#}", answer.json);
    assert_eq!(made(), text(&answer.json["container_id"]));
    assert!(server.end_with("TERM").success());
}
