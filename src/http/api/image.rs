//! `/v1/images`.

mod credentials;

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use rocket::{
    Route, State, delete, get,
    http::{
        ContentType, Status,
        uri::{Segments, fmt::Path},
    },
    post,
    request::FromSegments,
    response::stream::ByteStream,
    routes,
    serde::json::Json,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{OpenApi, ToSchema};

use self::credentials::RegistryAuth;
use crate::{
    http::{
        auth::Caller,
        fields::{Fields, about},
        openapi::Refused,
        problem::{Origin, Problem, ProblemView},
        request::Trace,
    },
    model::{Error, ImageReference, PullProgress, Result},
    service::{
        Spindown,
        image::{Pulling, Told},
    },
};

const PULL: [&str; 1] = ["image"];

/// The routes.
pub(in crate::http) fn routes() -> Vec<Route> {
    routes![list, pull, remove]
}

/// Objects of JSON, one a line.
type Lines = (ContentType, ByteStream<BoxStream<'static, String>>);

/// The image that is to be pulled, as the document tells it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described, and never made")]
struct PullRequest {
    /// Its name; without a tag `latest` is meant.
    #[schema(examples("spindown/ssh"), min_length = 1, max_length = 255)]
    image: String,
}

/// A line of a pull, as the document tells it.
#[derive(Serialize, ToSchema)]
struct PullLine<'a> {
    /// What is being done; at last `done` or `failed`.
    status: &'static str,
    /// The layer that it is done to.
    layer: Option<String>,
    /// How many bytes of it are there.
    current: Option<u64>,
    /// How many it has.
    total: Option<u64>,
    /// The image that is there now.
    image: Option<String>,
    /// Why it failed.
    problem: Option<ProblemView<'a>>,
}

/// A line of a pull that goes on.
#[derive(Debug, Serialize)]
struct ProgressView {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl From<PullProgress> for ProgressView {
    fn from(progress: PullProgress) -> Self {
        let PullProgress { step, layer, current, total } = progress;
        Self { status: step.as_str(), layer, current, total }
    }
}

/// The rest of a path, slashes included. A name that means something to a file system does not to an engine.
struct Rest(String);

impl<'r> FromSegments<'r> for Rest {
    type Error = std::convert::Infallible;

    fn from_segments(segments: Segments<'r, Path>) -> std::result::Result<Self, Self::Error> {
        Ok(Self(segments.map(|segment| format!("/{segment}")).collect()))
    }
}

#[derive(OpenApi)]
#[openapi(paths(list, pull, remove))]
pub(in crate::http) struct Docs;

/// Lists the tags of all images on the engine.
#[utoipa::path(
    operation_id = "list_images",
    responses((status = 200, description = "The tags", body = [String]), Caller, Refused<503>)
)]
#[get("/images")]
async fn list(_caller: Caller, trace: Trace, spindown: &State<Arc<Spindown>>) -> Result<Json<Vec<String>>, Problem> {
    Ok(Json(trace.follow(spindown.images()).await?))
}

/// Pulls an image, and tells of it line by line.
///
/// The answer is held until the first progress: what fails before is a problem with a status of its own.
#[utoipa::path(
    operation_id = "pull_image",
    params((
        "X-Registry-Auth" = Option<String>, Header,
        description = "The credentials for a private registry, as Docker's clients send them: JSON in base64url"
    )),
    request_body = PullRequest,
    responses(
        (status = 200, description = "Objects of JSON, one a line; the last one tells the outcome", body = PullLine,
            content_type = "application/x-ndjson"),
        Caller, Fields, Refused<404>, Refused<409>, Refused<422>, Refused<429>, Refused<503>,
    )
)]
#[post("/images", data = "<fields>")]
async fn pull(
    _caller: Caller,
    trace: Trace,
    origin: Origin,
    credentials: RegistryAuth,
    mut fields: Fields,
    spindown: &State<Arc<Spindown>>,
) -> Result<Lines, Problem> {
    let image = fields.text("image")?;
    fields.finish(&PULL)?;
    let image = image.ok_or_else(|| Error::invalid("image: is needed: the name of the image to pull"))?;
    let image = about("image", ImageReference::parse(&image))?;
    let name = image.to_string();
    let pulling = trace.follow(spindown.pull_image(image, credentials.0)).await?;
    let told = Telling { pulling, name, origin, trace };
    let lines = futures::stream::unfold(Some(told), |told| async { Some(told?.line().await) });
    Ok((ContentType::new("application", "x-ndjson"), ByteStream(lines.boxed())))
}

/// Removes an image that no container is made from.
#[utoipa::path(
    delete,
    operation_id = "remove_image",
    path = "/images/{tag}",
    params(("tag" = String, Path, description = "The image's name; its slashes are written as they are")),
    responses((status = 204, description = "It is gone"), Caller, Refused<400>, Refused<404>, Refused<409>, Refused<503>)
)]
#[delete("/images/<first>/<rest..>")]
async fn remove(
    _caller: Caller,
    trace: Trace,
    first: &str,
    rest: Rest,
    spindown: &State<Arc<Spindown>>,
) -> Result<Status, Problem> {
    let image = ImageReference::parse(&format!("{first}{}", rest.0))?;
    trace.follow(spindown.remove_image(&image)).await?;
    Ok(Status::NoContent)
}

/// A pull that is told line by line.
struct Telling {
    pulling: Pulling,
    name: String,
    origin: Origin,
    trace: Trace,
}

impl Telling {
    /// The next line, and what comes after it, unless it is the last.
    async fn line(mut self) -> (String, Option<Self>) {
        let (line, last) = match self.pulling.next().await {
            Told::Progress(progress) => (json!(ProgressView::from(progress)), false),
            Told::Done => (json!({"status": "done", "image": self.name}), true),
            Told::Failed(error) => {
                let problem = self.trace.follow(async { Problem::from(error) }).await;
                (json!({"status": "failed", "problem": problem.view(&self.origin)}), true)
            }
        };
        (format!("{line}\n"), (!last).then_some(self))
    }
}
