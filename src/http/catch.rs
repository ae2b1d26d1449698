//! Catchers: what Rocket answers by itself, in the shape of the API.

use rocket::{
    Catcher, Request, Route,
    http::{Method, Status},
};

use super::problem::Problem;
use crate::model::{Error, Kind};

/// What a guard leaves behind when it refuses, so that its message reaches the caller.
#[derive(Debug, Default)]
pub(super) struct Refusal(std::sync::Mutex<Option<(Status, Error)>>);

impl Refusal {
    fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(Self::default)
    }

    /// Leaves the error for the catcher, and answers its status.
    pub(super) fn leave(request: &Request<'_>, status: Status, error: Error) -> Status {
        *Self::of(request).0.lock().unwrap_or_else(|e| e.into_inner()) = Some((status, error));
        status
    }

    fn take(request: &Request<'_>, status: Status) -> Option<Error> {
        let mut left = Self::of(request).0.lock().unwrap_or_else(|e| e.into_inner());
        left.take_if(|(of, _)| *of == status).map(|(_, error)| error)
    }
}

/// All of them.
pub(super) fn catchers() -> Vec<Catcher> {
    rocket::catchers![not_found, anything]
}

/// No route: the path is unknown, or the method is wrong, which Rocket does not tell apart.
#[rocket::catch(404)]
fn not_found(request: &Request<'_>) -> Problem {
    let path = request.uri().path();
    let mut methods: Vec<&str> =
        request.rocket().routes().filter(|r| leads_to(r, path.as_str())).map(|r| r.method.as_str()).collect();
    if methods.contains(&Method::Get.as_str()) {
        methods.push(Method::Head.as_str());
    }
    methods.sort_unstable();
    methods.dedup();
    if methods.is_empty() {
        return Problem::new(
            Status::NotFound,
            format!("there is nothing at {path}; the API is at /v1/containers and /v1/images"),
        );
    }
    let message = format!("{} is not possible at {path}, only {}", request.method(), methods.join(", "));
    Problem::new(Status::MethodNotAllowed, message).allowing(methods.join(", "))
}

#[rocket::catch(default)]
fn anything(status: Status, request: &Request<'_>) -> Problem {
    match Refusal::take(request, status) {
        Some(error) if status == super::problem::status(error.kind()) => error.into(),
        Some(error) => Problem::new(status, error.message()),
        None if status == Status::InternalServerError => {
            Error::new(Kind::Internal, "something went wrong here; the log tells more under this request_id").into()
        }
        None => Problem::new(status, status.reason_lossy()),
    }
}

/// Whether the route would take the path with its own method.
fn leads_to(route: &Route, path: &str) -> bool {
    let segments = |path: &str| path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (mut pattern, mut path) = (segments(route.uri.path()), segments(path));
    if pattern.last().is_some_and(|last| last.ends_with("..>")) {
        // It stands for any number of parts, none included.
        pattern.pop();
        path.truncate(pattern.len());
    }
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(p, s)| p.starts_with('<') || p == s)
}
