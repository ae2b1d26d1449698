//! Errors as `application/problem+json` (RFC 9457), with a `message` beside the standard members.

use std::io::Cursor;

use rocket::{
    Request, Response,
    http::{Header, Status},
    outcome::Outcome,
    request::{self, FromRequest},
    response::{self, Responder},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::request::RequestId;
use crate::model::{Error, Kind};

/// The content type.
pub(super) const TYPE: &str = "application/problem+json";

/// What a caller sees of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView<'a> {
    /// `about:blank`: the status tells what it is.
    #[serde(rename = "type")]
    #[schema(examples("about:blank"))]
    kind: &'static str,
    /// The status in words.
    #[schema(examples("Not Found"))]
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, for people.
    detail: &'a str,
    /// The same.
    message: &'a str,
    /// The path that was asked for.
    instance: &'a str,
    /// Under which the log tells more.
    request_id: &'a str,
}

/// An error on its way to the caller.
#[derive(Debug)]
pub struct Problem {
    status: Status,
    message: String,
    retry_after: Option<u64>,
    allow: Option<String>,
}

impl Problem {
    /// A problem that no error of the service stands behind.
    pub(super) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, allow: None }
    }

    /// The status.
    pub(super) fn status(&self) -> u16 {
        self.status.code
    }

    /// What the caller reads.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Tells which methods there are.
    pub(super) fn allowing(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }
}

/// The one place where errors become statuses, and are logged.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = status(error.kind());
        let source = std::error::Error::source(&error).map(ToString::to_string);
        match error.kind() {
            Kind::Internal => tracing::error!(error = error.message(), source, "request failed"),
            Kind::Unavailable | Kind::Exhausted => tracing::warn!(error = error.message(), source, "request failed"),
            _ => tracing::debug!(error = error.message(), source, "request refused"),
        }
        let retry_after = error.retry_after().map(|wait| wait.as_secs().max(1));
        Self { status, message: error.message().to_owned(), retry_after, allow: None }
    }
}

/// The status that tells the kind.
pub(super) fn status(kind: Kind) -> Status {
    match kind {
        Kind::Invalid => Status::BadRequest,
        Kind::Unauthorized => Status::Unauthorized,
        Kind::Forbidden => Status::Forbidden,
        Kind::NotFound => Status::NotFound,
        Kind::Conflict => Status::Conflict,
        Kind::Unsuitable => Status::UnprocessableEntity,
        Kind::TooMany => Status::TooManyRequests,
        Kind::Exhausted | Kind::Unavailable => Status::ServiceUnavailable,
        Kind::Internal => Status::InternalServerError,
    }
}

/// What a problem tells of the request that it came with.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    path: String,
    id: String,
}

impl Origin {
    fn of(request: &Request<'_>) -> Self {
        Self { path: request.uri().path().to_string(), id: RequestId::of(request).as_str().to_owned() }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Origin {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Self::Error> {
        Outcome::Success(Self::of(request))
    }
}

impl Problem {
    /// What the caller sees.
    pub(super) fn view<'a>(&'a self, origin: &'a Origin) -> ProblemView<'a> {
        ProblemView {
            kind: "about:blank",
            title: self.status.reason_lossy(),
            status: self.status.code,
            detail: &self.message,
            message: &self.message,
            instance: &origin.path,
            request_id: &origin.id,
        }
    }
}

impl<'r> Responder<'r, 'static> for Problem {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let origin = Origin::of(request);
        let body = serde_json::to_string(&self.view(&origin)).map_err(|_| Status::InternalServerError)?;
        let mut response = Response::build();
        response
            .status(self.status)
            .header(Header::new("Content-Type", TYPE))
            .sized_body(body.len(), Cursor::new(body));
        if self.status == Status::Unauthorized {
            response.header(Header::new("WWW-Authenticate", "Basic realm=\"spindown\", charset=\"UTF-8\""));
        }
        if let Some(seconds) = self.retry_after {
            response.header(Header::new("Retry-After", seconds.to_string()));
        }
        if let Some(methods) = self.allow {
            response.header(Header::new("Allow", methods));
        }
        response.ok()
    }
}
