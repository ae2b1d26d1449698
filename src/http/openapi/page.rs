//! `/docs`: Swagger UI over the document, from files that the binary carries. It asks nobody but this server.

use std::sync::{Arc, LazyLock};

use rocket::{
    Request, Response, Route, get,
    http::{ContentType, Header, Status},
    response::{self, Responder},
    routes,
};
use utoipa_swagger_ui::Config;

use crate::http::{openapi::Refused, problem::Problem};

/// Styles may stand in the page: Swagger UI writes some. Scripts, and whatever else is fetched, come from here alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of Swagger UI that the page needs.
const PARTS: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    routes![page, part]
}

/// A file of the page.
pub(super) struct File {
    kind: ContentType,
    bytes: Vec<u8>,
}

impl<'r> Responder<'r, 'static> for File {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build_from((self.kind, self.bytes).respond_to(request)?);
        response.header(Header::new("Content-Security-Policy", POLICY));
        response.header(Header::new("Referrer-Policy", "no-referrer")).ok()
    }
}

/// This document as a page.
#[utoipa::path(
    operation_id = "docs",
    responses((
        status = 200, description = "The page", content_type = "text/html; charset=utf-8", body = String,
        headers(("Content-Security-Policy" = String, description = "The page's scripts come from here alone"))
    ))
)]
#[get("/docs")]
pub(super) fn page() -> File {
    File { kind: ContentType::HTML, bytes: include_bytes!("page/index.html").to_vec() }
}

/// A file of that page.
#[utoipa::path(
    operation_id = "docs_file",
    responses((
        status = 200, description = "The file",
        content((String = "text/css; charset=utf-8"), (String = "text/javascript"), (String = "image/png")),
        headers(("Content-Security-Policy" = String, description = "The page's scripts come from here alone"))
    ), Refused<404>)
)]
#[get("/docs/<file>")]
pub(super) fn part(file: &str) -> Result<File, Problem> {
    static CONFIG: LazyLock<Arc<Config<'_>>> = LazyLock::new(Arc::default);
    let bytes = match file {
        "start.js" => Some(include_bytes!("page/start.js").to_vec()),
        part if PARTS.contains(&part) => {
            utoipa_swagger_ui::serve(part, Arc::clone(&CONFIG)).ok().flatten().map(|f| f.bytes.into_owned())
        }
        _ => None,
    };
    let kind = file.rsplit_once('.').and_then(|(_, extension)| ContentType::from_extension(extension));
    match (bytes, kind) {
        (Some(bytes), Some(kind)) => Ok(File { kind, bytes }),
        _ => Err(Problem::new(Status::NotFound, format!("there is no file {file:?}; the page is at /docs"))),
    }
}
