//! HTTP: guards, errors and bodies; `api` is the native API. A handler binds, makes one call to the service, and renders.

pub mod api;
mod auth;
mod catch;
mod fields;
pub mod openapi;
mod problem;
mod request;

use std::sync::Arc;

use ipnet::IpNet;
use rocket::{Build, Rocket, figment::Figment};

use crate::service::Spindown;

pub use problem::Problem;
pub use request::UnderWay;

/// Proxies whose word on the client's address is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

/// The API's server.
pub fn api_server(figment: Figment, spindown: Arc<Spindown>, proxies: TrustedProxies) -> Rocket<Build> {
    rocket::custom(figment)
        .manage(spindown)
        .manage(proxies)
        .manage(UnderWay::default())
        .attach(request::Log)
        .mount("/", api::health::routes())
        .mount("/v1", api::check_in::routes())
        .manage(api::event::Readers::default())
        .mount("/", api::metrics::routes())
        .mount("/v1", api::event::routes())
        .mount("/v1", api::image::routes())
        .mount("/v1", api::container::routes())
        .mount("/v1", api::disk::routes())
        .mount("/", openapi::routes())
        .register("/", catch::catchers())
}

/// The server for check-ins on the containers' gateway. It serves nothing else.
pub fn check_in_server(figment: Figment, spindown: Arc<Spindown>) -> Rocket<Build> {
    rocket::custom(figment)
        .manage(spindown)
        .manage(TrustedProxies::default())
        .manage(UnderWay::default())
        .attach(request::Log)
        .mount("/v1", api::check_in::routes())
        .register("/", catch::catchers())
}
