//! The OpenAPI document at `/openapi.json`: what stands beside each handler, collected, and completed with what holds for
//! all of them. `page` shows it at `/docs`.
//!
//! A route is documented by `#[utoipa::path]` on its handler, with the guards that it has among its `responses` and
//! `Refused` for what else it refuses, and by its name in the `Docs` of its file. A file that is new is named in
//! `document`.

mod page;
mod words;

use std::{collections::BTreeMap, sync::LazyLock};

use rocket::{Route, get, http::ContentType, routes};
use utoipa::{
    IntoResponses, OpenApi, PartialSchema,
    openapi::{
        self, Content, Header, HttpMethod, RefOr, Required, Response, ResponseBuilder,
        path::{Operation, ParameterIn, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::Tag,
    },
};

use super::{
    api,
    problem::{ProblemView, TYPE},
};

pub(super) use self::words::{Amount, Number, Pairs, Span, Texts};

/// The security scheme's name.
const BASIC: &str = "basic";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Responses by their status.
pub(super) type Responses = BTreeMap<String, RefOr<Response>>;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    [routes![show], page::routes()].concat()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Spindown",
        description = "Containers that sleep. Every answer carries `X-Request-Id`, which is also in the log; a request \
            may bring its own. A path that is not listed is answered with a problem of status 404, a method that is not \
            with one of 405 whose `Allow` tells which there are. `HEAD` goes wherever `GET` does."
    ),
    components(schemas(ProblemView))
)]
struct Head;

#[derive(OpenApi)]
#[openapi(paths(show, page::page, page::part))]
struct Docs;

/// The document.
pub fn document() -> openapi::OpenApi {
    let mut document = Head::openapi();
    document = add(document, "", "health", "Whether each part works", api::health::Docs::openapi());
    document = add(document, "/v1", "containers", "Sandboxes", api::container::Docs::openapi());
    document = add(document, "/v1", "images", "What sandboxes are made from", api::image::Docs::openapi());
    document = add(document, "/v1", "check-in", "What containers report", api::check_in::Docs::openapi());
    document = add(document, "/v1", "disk", "Room on the disk", api::disk::Docs::openapi());
    document = add(document, "/v1", "events", "What happens", api::event::Docs::openapi());
    document = add(document, "", "metrics", "How much, and how fast", api::metrics::Docs::openapi());
    document = add(document, "", "document", "This document", Docs::openapi());
    let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
    document.components.get_or_insert_default().add_security_scheme(BASIC, SecurityScheme::Http(basic));
    document
}

/// Adds what one file documents, at the path that its routes are mounted at.
fn add(
    mut document: openapi::OpenApi,
    base: &str,
    tag: &str,
    about: &str,
    mut part: openapi::OpenApi,
) -> openapi::OpenApi {
    for (path, item) in &mut part.paths.paths {
        for (method, operation) in operations(item) {
            operation.tags = Some(vec![tag.to_owned()]);
            // A handler may take a part of the path in pieces.
            let is_there = |name: &str| path.contains(&format!("{{{name}}}"));
            operation.parameters.iter_mut().for_each(|parameters| {
                parameters.retain(|parameter| match parameter {
                    RefOr::T(p) => p.parameter_in != ParameterIn::Path || is_there(&p.name),
                    RefOr::Ref(_) => true,
                });
            });
            complete(operation, method == HttpMethod::Get);
        }
    }
    let mut tag = Tag::new(tag);
    tag.description = Some(about.to_owned());
    document.tags.get_or_insert_default().push(tag);
    document.nest(base, part)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [
        (HttpMethod::Get, get),
        (HttpMethod::Put, put),
        (HttpMethod::Post, post),
        (HttpMethod::Delete, delete),
        (HttpMethod::Patch, patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds to an operation what holds wherever it is so.
fn complete(operation: &mut Operation, reads: bool) {
    let responses = &mut operation.responses.responses;
    responses.extend(refusals(&[500]));
    if reads {
        // The guard refuses another site's page only where something changes.
        responses.remove("403");
    }
    let guarded = responses.contains_key("401");
    operation.security = Some(guarded.then(|| SecurityRequirement::new(BASIC, [""; 0])).into_iter().collect());
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".to_owned(), header("Under which the log tells more").into());
        }
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && (&*parameter.name, &parameter.parameter_in) == ("name", &ParameterIn::Path)
        {
            parameter.description =
                Some("The container's id, its engine's id, 12 or more first digits of either, or its name".to_owned());
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.description = Some("The fields, as JSON or as a form; they may stand in the query, too.".to_owned());
        body.required = Some(Required::False);
        if let Some(json) = body.content.get(JSON).cloned() {
            body.content.insert(FORM.to_owned(), json);
        }
    }
}

fn header(description: &str) -> Header {
    let mut header = Header::new(String::schema());
    header.description = Some(description.to_owned());
    header
}

/// What a handler refuses with this status, in its `responses`.
pub(super) struct Refused<const STATUS: u16>;

impl<const STATUS: u16> IntoResponses for Refused<STATUS> {
    fn responses() -> Responses {
        refusals(&[STATUS])
    }
}

/// Problems of these statuses: what a guard refuses with.
pub(super) fn refusals(statuses: &[u16]) -> Responses {
    statuses.iter().map(|status| (status.to_string(), problem(*status).into())).collect()
}

fn problem(status: u16) -> Response {
    let schema = openapi::Ref::from_schema_name("Problem");
    let mut problem = ResponseBuilder::new().description(meaning(status)).content(TYPE, Content::new(Some(schema)));
    match status {
        401 => problem = problem.header("WWW-Authenticate", header("Asks for basic authentication")),
        503 => problem = problem.header("Retry-After", header("Seconds, if it is known how many")),
        _ => {}
    }
    problem.build()
}

/// When a status is answered.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "A field is missing, unknown, of the wrong type or out of bounds, or the body cannot be read",
        401 => "No credentials, or wrong ones",
        403 => "A change that a page of another site sends through a browser",
        404 => "There is no such thing",
        408 => "The body took too long to arrive",
        409 => "It does not go with how things stand; `message` tells why",
        413 => "The body is too large",
        415 => "The body is neither JSON nor a form",
        422 => "The image, or what is asked of it, does not do",
        429 => "Too many at once",
        500 => "A fault of Spindown's",
        503 => "Nothing is left of something, or the engine or the store does not answer",
        _ => "A problem",
    }
}

/// This document.
#[utoipa::path(operation_id = "document", responses((status = 200, description = "The document", body = Object)))]
#[get("/openapi.json")]
fn show() -> (ContentType, &'static str) {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    (ContentType::JSON, &TEXT)
}
