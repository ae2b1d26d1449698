//! A request's id, the client's address, and one line of log for each.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use rocket::{
    Data, Request, Response,
    fairing::{Fairing, Info, Kind},
    http::{Header, Method, Status},
    outcome::Outcome,
    request::{self, FromRequest},
};
use tokio::sync::watch;
use tracing::Instrument;

use super::TrustedProxies;
use crate::{
    meter,
    model::{Moment, Stamp},
    service::Spindown,
};

/// The header that carries the id, in and out.
const HEADER: &str = "X-Request-Id";

/// The sizes of the pieces in which an answer of known length is handed on. Unless told otherwise Rocket takes 4 KiB, and a
/// list of hundreds of containers spends more time on a hundred turns of the scheduler than on everything else.
const PIECE: RangeInclusive<usize> = 4 << 10..=256 << 10;

/// The id that follows a request through the log. A caller may give one.
#[derive(Clone, Debug)]
pub(super) struct RequestId(String);

impl RequestId {
    /// The request's id.
    pub(super) fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| {
            let given = request.headers().get_one(HEADER).filter(|id| {
                (1..=64).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            });
            Self(given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned))
        })
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Follows one request: what is done for it is logged under its id.
#[derive(Clone, Debug)]
pub(super) struct Trace(tracing::Span);

impl Trace {
    /// Does `work` under the request's id.
    pub(super) async fn follow<T>(&self, work: impl Future<Output = T>) -> T {
        work.instrument(self.0.clone()).await
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Trace {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Self::Error> {
        Outcome::Success(Self(tracing::info_span!("request", id = RequestId::of(request).as_str())))
    }
}

/// The client's address: the peer's, or the one that a trusted proxy tells.
pub(super) fn client(request: &Request<'_>) -> Option<IpAddr> {
    let peer = request.remote()?.ip().to_canonical();
    let trusted = request.rocket().state::<TrustedProxies>();
    let trusts = |address: IpAddr| trusted.is_some_and(|t| t.0.iter().any(|net| net.contains(&address)));
    if !trusts(peer) {
        return Some(peer);
    }
    // Each proxy adds the address that it saw at the end: the last one that is not itself a trusted proxy is the client.
    let told = request.headers().get("X-Forwarded-For").flat_map(|h| h.split(','));
    let told: Vec<IpAddr> = told.filter_map(|a| a.trim().parse::<IpAddr>().ok()).collect();
    Some(told.into_iter().rev().find(|a| !trusts(*a)).unwrap_or(peer))
}

/// The requests under way, from when their head has been read until their answer is written.
#[derive(Clone, Debug)]
pub struct UnderWay(Arc<watch::Sender<usize>>);

impl Default for UnderWay {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl UnderWay {
    /// Returns when there are none.
    pub async fn over(&self) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    fn enter(&self) -> Presence {
        self.0.send_modify(|count| *count += 1);
        Presence(self.clone())
    }
}

/// One request under way, until it is dropped.
struct Presence(UnderWay);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Gives each answer the request's id, keeps browsers from guessing and storing, and writes one line of log.
pub(super) struct Log;

#[rocket::async_trait]
impl Fairing for Log {
    fn info(&self) -> Info {
        Info { name: "log", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        started(request);
        // The cache ends with the request.
        request.local_cache(|| request.rocket().state::<UnderWay>().map(UnderWay::enter));
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let id = RequestId::of(request).as_str();
        response.set_header(Header::new(HEADER, id.to_owned()));
        response.set_header(Header::new("X-Content-Type-Options", "nosniff"));
        response.set_header(Header::new("Cache-Control", "no-store"));
        if let Some(size) = response.body().preset_size() {
            response.set_max_chunk_size(size.clamp(*PIECE.start(), *PIECE.end()));
        }
        let took = now(request).map_or(Moment::START, |now| now.moment).since(*started(request));
        let route = request.route().map_or("none", |route| route.uri.as_str());
        metrics::histogram!(
            meter::REQUEST,
            "method" => request.method().as_str(),
            "route" => route.to_owned(),
            "status" => response.status().code.to_string()
        )
        .record(took.as_secs_f64());
        // Every container checks in every minute: that one did is no news.
        if request.method() == Method::Post && response.status() == Status::NoContent {
            return;
        }
        tracing::info!(
            id,
            client = client(request).map(tracing::field::display),
            method = request.method().as_str(),
            path = request.uri().path().as_str(),
            status = response.status().code,
            ms = took.as_secs_f64() * 1e3,
            "request"
        );
    }
}

fn now(request: &Request<'_>) -> Option<Stamp> {
    request.rocket().state::<Arc<Spindown>>().map(|spindown| spindown.now())
}

fn started<'r>(request: &'r Request<'_>) -> &'r Moment {
    request.local_cache(|| now(request).map_or(Moment::START, |now| now.moment))
}
