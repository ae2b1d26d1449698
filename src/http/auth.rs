//! Who calls: basic authentication.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rocket::{
    Request,
    http::Method,
    outcome::Outcome,
    request::{self, FromRequest},
};
use utoipa::IntoResponses;

use super::{
    catch::Refusal,
    openapi::{Responses, refusals},
    problem,
    request::Trace,
};
use crate::{
    model::{Error, Kind, Result},
    service::Spindown,
};

/// The longest header read: no name and password are that long.
const LONGEST: usize = 1_024;

/// A caller who has proved who he is.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// His name.
    pub name: String,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let trace = request.guard::<Trace>().await;
        let outcome = match trace {
            Outcome::Success(trace) => trace.follow(admit(request)).await,
            _ => admit(request).await,
        };
        match outcome {
            Ok(caller) => Outcome::Success(caller),
            Err(error) => Outcome::Error((Refusal::leave(request, problem::status(error.kind()), error), ())),
        }
    }
}

impl IntoResponses for Caller {
    fn responses() -> Responses {
        refusals(&[401, 403, 429, 503])
    }
}

async fn admit(request: &Request<'_>) -> Result<Caller> {
    let refused = |message: &str| Error::new(Kind::Unauthorized, message);
    let header = request.headers().get_one("Authorization");
    let header = header.ok_or_else(|| refused("credentials are needed: curl -u <user>:<password>"))?;
    let (name, password) = decode(header).ok_or_else(|| refused("the Authorization header is not a basic one"))?;
    let spindown = request.rocket().state::<Arc<Spindown>>().ok_or_else(|| Error::unavailable("not started yet"))?;
    spindown.authenticate(&name, &password).await?;
    // A browser that knows the password would send it along with a form on anybody's page.
    let elsewhere = request.headers().get_one("Sec-Fetch-Site").is_some_and(|s| !matches!(s, "same-origin" | "none"));
    if elsewhere && !matches!(request.method(), Method::Get | Method::Head) {
        return Err(Error::new(Kind::Forbidden, "another site's page may not change anything here"));
    }
    Ok(Caller { name })
}

/// Name and password from the header's value.
fn decode(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > LONGEST {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_is_decoded_or_refused() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(decode("Basic YWRtaW46c3BpbmRvY2tlcg=="), pair("admin", "spindocker"));
        assert_eq!(decode("basic YTpiOmM="), pair("a", "b:c"));
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Bearer YTpi",
            "Basic YWRtaW4=",
            "Basic /w==",
            &format!("Basic {}", "YTpi".repeat(400)),
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_decoded_or_refused(text in ".{0,80}") {
            let _ = decode(&text);
        }
    }
}
