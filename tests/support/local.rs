//! The API without a network: requests go straight into it, over the world of `world`. Every answer is held to the
//! document.

use std::net::{IpAddr, Ipv4Addr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rocket::{
    http::{ContentType, Header, Method},
    local::asynchronous::Client,
};
use serde_json::Value;
use spindown::http::{TrustedProxies, api_server};

use super::{
    document::{Headers, document},
    world::World,
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    /// Path and query.
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Who asks.
    pub from: IpAddr,
}

impl Ask {
    /// A request with the credentials of the world.
    pub fn new(method: Method, uri: &str) -> Self {
        let credentials = format!("Basic {}", STANDARD.encode("admin:secret"));
        Self { headers: vec![("Authorization".to_owned(), credentials)], ..Self::open(method, uri) }
    }

    /// A request without credentials.
    pub fn open(method: Method, uri: &str) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { method, uri: uri.to_owned(), headers, body, from: Ipv4Addr::LOCALHOST.into() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body of this type; without one if that is empty.
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        if kind.is_empty() { self } else { self.header("Content-Type", kind) }
    }
}

/// What is answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The API over a world.
pub struct Local {
    pub world: World,
    pub client: Client,
}

impl Local {
    pub async fn new() -> Self {
        let world = World::new().await;
        let figment = rocket::Config::figment().merge(("log_level", "off")).merge(("cli_colors", false));
        let server = api_server(figment, world.service(), TrustedProxies::default());
        Self { world, client: Client::untracked(server).await.unwrap() }
    }

    /// Sends a request. Its answer must be as documented, and no fault of the server's.
    pub async fn send(&self, ask: &Ask) -> Reply {
        let mut request = self.client.req(ask.method, ask.uri.clone()).remote((ask.from, 40_000).into());
        for (name, value) in &ask.headers {
            request.add_header(Header::new(name.clone(), value.clone()));
        }
        let response = request.body(&ask.body).dispatch().await;
        let headers = response.headers().iter().map(|h| (h.name().as_str().to_lowercase(), h.value().to_owned()));
        let (status, headers) = (response.status().code, headers.collect());
        // A stream has no end to wait for.
        let followed = ask.uri.contains("/logs?") && ask.uri.contains("follow=") && response.status().code == 200;
        let endless = followed || response.content_type().is_some_and(|kind| kind == ContentType::EventStream);
        let body = if endless { None } else { response.into_bytes().await };
        let reply = Reply { status, headers, body: body.unwrap_or_default() };
        let checked = document().check(ask.method.as_str(), &ask.uri, status, &reply.headers, &reply.body);
        checked.unwrap_or_else(|why| panic!("{why}\nto {ask:?}"));
        assert_ne!(status, 500, "{}\nto {ask:?}", String::from_utf8_lossy(&reply.body));
        reply
    }
}
