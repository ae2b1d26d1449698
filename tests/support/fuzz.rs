//! What the fuzzers do with the bytes that they are given, and what must be true then. The targets below `fuzz/` and the
//! test that replays their corpus share it.
//!
//! A request is written as one line, a letter for the type of the body and then the query, and the body below it.

use std::{cell::RefCell, time::Duration};

use rocket::http::Method;
use spindown::{
    engine::Engine,
    model::{Rungs, Timeout, Timetable, format_duration, parse_cpus, parse_duration, parse_memory},
};
use time::macros::datetime;
use tokio::runtime::{Builder, Runtime};

use super::local::{Ask, Local};

/// The types that a body may be said to be of.
const KINDS: [(u8, &str); 7] = [
    (b'f', "application/x-www-form-urlencoded"),
    (b'j', "application/json"),
    (b'n', ""),
    (b'c', "application/x-www-form-urlencoded; charset=utf-8"),
    (b'v', "application/vnd.api+json"),
    (b't', "text/plain"),
    (b'm', "multipart/form-data; boundary=x"),
];
/// After so many requests the world is made anew: what a server remembers of each container adds up.
const LIFETIME: u32 = 5_000;

/// An API, and the runtime that it lives on.
struct Stage {
    runtime: Runtime,
    local: Local,
    requests: u32,
}

/// Lets `act` happen on the stage of this thread.
fn with_stage(act: impl AsyncFnOnce(&mut Local)) {
    thread_local!(static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) });
    STAGE.with_borrow_mut(|stage| {
        stage.take_if(|stage| stage.requests > LIFETIME);
        let stage = stage.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let local = runtime.block_on(Local::new());
            Stage { runtime, local, requests: 0 }
        });
        stage.requests += 1;
        stage.runtime.block_on(act(&mut stage.local));
    });
}

/// The query and the typed body that these bytes stand for.
fn read(data: &[u8]) -> (String, &'static str, &[u8]) {
    let (line, body) =
        data.iter().position(|b| *b == b'\n').map_or((data, &b""[..]), |at| (&data[..at], &data[at + 1..]));
    let (letter, query) = line.split_first().unwrap_or((&b'f', &[]));
    let kind = KINDS.iter().find(|(of, _)| *of == letter.to_ascii_lowercase()).map_or("", |(_, kind)| *kind);
    // Whatever cannot stand in a query is written so that it can.
    let written = query.iter().map(|b| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(*b).to_string(),
        b'=' | b'&' | b'%' | b'+' | b'-' | b'_' | b'.' | b'/' | b':' => char::from(*b).to_string(),
        other => format!("%{other:02X}"),
    });
    let query: String = written.collect();
    (if query.is_empty() { query } else { format!("?{query}") }, kind, body)
}

/// A report: it is noted or refused, from a container or from elsewhere.
pub fn check_in(data: &[u8]) {
    let (query, kind, body) = read(data);
    with_stage(async |local| {
        let id = match local.world.list().first() {
            Some(report) => report.container.id.clone(),
            None => local.world.create("never").await,
        };
        let address = local.world.report(&id).container.address.unwrap();
        let mut ask = Ask::open(Method::Post, &format!("/v1/check-in{query}")).body(kind, body);
        if data.first().is_none_or(|letter| !letter.is_ascii_uppercase()) {
            ask.from = address.into();
        }
        // The limiter lets five a second through.
        local.world.gap(Duration::from_millis(200));
        let reply = local.send(&ask).await;
        assert_ne!(reply.status, 429, "it reports no faster than it may");
        if ask.from == address {
            assert_ne!(reply.status, 404);
        } else {
            assert_ne!(reply.status, 204, "that is no container's address");
        }
    });
}

/// A create: it makes one container, which can be removed again, or none.
pub fn create(data: &[u8]) {
    let (query, kind, body) = read(data);
    with_stage(async |local| {
        let mut ask = Ask::new(Method::Post, &format!("/v1/containers{query}")).body(kind, body);
        if data.first().is_some_and(u8::is_ascii_uppercase) {
            ask = ask.header("Idempotency-Key", "fuzz");
        }
        let reply = local.send(&ask).await;
        if reply.status == 201 {
            let uri = reply.headers["location"].clone();
            assert_eq!(reply.json()["uri"], *uri);
            assert_eq!(local.send(&Ask::new(Method::Get, &uri)).await.json()["id"], reply.json()["id"]);
            assert_eq!(local.send(&Ask::new(Method::Delete, &uri)).await.status, 204);
        }
        assert!(local.world.list().is_empty(), "{} left a container", reply.status);
        assert_eq!(local.world.sim.list().await.unwrap().len(), 0, "{} left a container at the engine", reply.status);
    });
}

/// A duration, an idle timeout, an amount, a rung of the ladder: it is refused, or reads back as the same.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let span = parse_duration(text);
    if let Ok(span) = &span {
        assert_eq!(span.subsec_nanos(), 0);
        assert_eq!(parse_duration(&format_duration(*span)).ok(), Some(*span), "{text:?}");
        assert_eq!(parse_duration(&span.as_secs().to_string()).ok(), Some(*span), "{text:?}");
        assert_eq!(parse_duration(&format!(" {text}\n")).ok(), Some(*span), "{text:?}");
    }
    match Timeout::parse(text) {
        Ok(timeout) => {
            assert_eq!(Timeout::parse(&timeout.to_string()).ok(), Some(timeout), "{text:?}");
            assert_eq!(timeout.span(), span.ok(), "{text:?}");
        }
        Err(_) => assert!(span.is_err() || span.is_ok_and(|span| span.is_zero()), "{text:?}"),
    }
    if let Ok(bytes) = parse_memory(text) {
        assert_eq!(parse_memory(&bytes.to_string()).ok(), Some(bytes), "{text:?}");
    }
    if let Ok(cpus) = parse_cpus(text) {
        assert_eq!(parse_cpus(&cpus.to_string()).ok(), Some(cpus), "{text:?}");
    }
    for table in Timetable::parse_all(text).unwrap_or_default() {
        let now = datetime!(2026-03-29 01:30 UTC);
        assert!(table.lasts_until(now).is_none_or(|until| until > now), "{text:?}");
    }
    for name in Rungs::NAMES {
        let (mut read, mut again) = (Rungs::default(), Rungs::default());
        if read.set(name, text).is_ok() {
            read.texts().into_iter().for_each(|(name, text)| again.set(name, &text).unwrap());
            assert_eq!(again, read, "{name} {text:?}");
        }
    }
}
