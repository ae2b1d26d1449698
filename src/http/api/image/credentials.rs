//! What a caller sends along for a registry, in Docker's own form: `X-Registry-Auth`, base64 of a JSON object. It is
//! passed on and forgotten; whatever is wrong with it is told without a word of it.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rocket::{
    Request,
    http::Status,
    outcome::Outcome,
    request::{self, FromRequest},
};
use serde::Deserialize;

use crate::{
    http::catch::Refusal,
    model::{Error, RegistryCredentials, Result},
};

/// The header.
const HEADER: &str = "X-Registry-Auth";
/// The longest value read: tokens take some kibibytes.
const LONGEST: usize = 16 << 10;
/// Padded or not: both are seen.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The object, as Docker's clients write it. What else they put in is of no use to a registry.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Written {
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
    serveraddress: Option<String>,
}

/// The credentials for a registry, if there are any.
pub(super) struct RegistryAuth(pub Option<RegistryCredentials>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RegistryAuth {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        match request.headers().get_one(HEADER).map_or(Ok(None), read) {
            Ok(credentials) => Outcome::Success(Self(credentials)),
            Err(error) => Outcome::Error((Refusal::leave(request, Status::BadRequest, error), ())),
        }
    }
}

fn read(header: &str) -> Result<Option<RegistryCredentials>> {
    let refused = |why: &str| {
        let form = r#"send base64 of {"username": "…", "password": "…", "serveraddress": "…"}"#;
        Error::invalid(format!("{HEADER}: {why}; {form}"))
    };
    if header.len() > LONGEST {
        return Err(refused("it is too long"));
    }
    let url_safe = header.trim().replace('+', "-").replace('/', "_");
    let decoded = BASE64.decode(url_safe).map_err(|_| refused("it is not base64"))?;
    let written: Written = serde_json::from_slice(&decoded).map_err(|_| refused("it does not hold such an object"))?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let credentials = RegistryCredentials {
        username: given(written.username),
        password: given(written.password),
        identity_token: given(written.identitytoken),
        registry_token: given(written.registrytoken),
        server: given(written.serveraddress),
    };
    if credentials.secrets().next().is_none() {
        // Docker's clients send an empty object when they know nothing.
        return Ok(None);
    }
    let pair = credentials.username.is_some() && credentials.password.is_some();
    if !pair && credentials.identity_token.is_none() && credentials.registry_token.is_none() {
        return Err(refused("a user name and a password belong together"));
    }
    Ok(Some(credentials))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> String {
        BASE64.encode(text)
    }

    #[test]
    fn credentials_are_read_in_every_form_that_is_seen() {
        let text = r#"{"username": "ada", "password": "p~?>", "serveraddress": "h.x:1", "email": "a@b"}"#;
        let safe = encoded(text);
        assert!(safe.contains(['-', '_']), "{safe}");
        for form in [safe.clone(), safe.replace('-', "+").replace('_', "/"), safe.trim_end_matches('=').to_owned()] {
            let read = read(&form).unwrap().unwrap();
            assert_eq!(read.password.as_deref(), Some("p~?>"), "{form}");
            assert_eq!((read.username.as_deref(), read.server.as_deref()), (Some("ada"), Some("h.x:1")));
            assert!(!format!("{read:?}").contains("ada"));
        }
        assert_eq!(read(&encoded(r#"{"identitytoken": "t"}"#)).unwrap().unwrap().identity_token.as_deref(), Some("t"));
        for nothing in ["{}", r#"{"serveraddress": "h.x"}"#, r#"{"username": "", "password": ""}"#] {
            assert_eq!(read(&encoded(nothing)).unwrap(), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_a_word_of_it() {
        for bad in [
            "secret!".to_owned(),
            encoded("secret"),
            encoded(r#"["secret"]"#),
            encoded(r#"{"username": "secret"}"#),
            encoded(r#"{"password": "secret"}"#),
            encoded(r#"{"username": "u", "password": {"x": "secret"}}"#),
            "A".repeat(LONGEST + 1),
        ] {
            let error = read(&bad).unwrap_err();
            assert!(error.message().starts_with(HEADER), "{error:?}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(text in ".{0,80}", json in ".{0,80}") {
            let _ = read(&text);
            let _ = read(&encoded(&json));
        }
    }
}
