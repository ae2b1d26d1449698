//! Fields: what a caller sends, as JSON, form or query alike, read by name and type. Whatever is not asked for is refused.

use std::{collections::BTreeMap, time::Duration};

use rocket::{
    Request,
    data::{Data, FromData, Outcome as DataOutcome, ToByteUnit},
    form::ValueField,
    http::Status,
    outcome::Outcome,
    request::{self, FromRequest},
};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use utoipa::IntoResponses;

use super::{
    catch::Refusal,
    openapi::{Responses, refusals},
};
use crate::model::{Error, Kind, Result};

/// The largest body of the API: a hundred keys and as many variables fit.
const BODY_LIMIT: usize = 256 << 10;
/// How many times the limit is read and thrown away of a larger body: whoever sends while the connection is closed sees
/// that, and not the answer.
const PATIENCE: usize = 16;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The fields of one request, by name.
#[derive(Debug, Default)]
pub(super) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// These, as a test has them.
    #[cfg(test)]
    pub(super) fn given<N: Into<String>>(fields: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// The query's fields; one that is repeated is a list.
    fn from_query(request: &Request<'_>) -> Self {
        let mut fields = Self::default();
        for ValueField { name, value } in request.query_fields() {
            fields.append(name.source().as_str(), value);
        }
        fields
    }

    fn append(&mut self, name: &str, value: &str) {
        let value = Value::String(value.to_owned());
        match self.0.get_mut(name) {
            None => drop(self.0.insert(name.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }

    /// Adds the body's fields to those of the query.
    fn add_body(&mut self, body: &[u8], format: Format) -> Result<()> {
        let parsed = match format {
            Format::Json => Self::from_json(body)?,
            Format::Form => Self::from_form(body)?,
        };
        for (name, value) in parsed.0 {
            if self.0.insert(name.clone(), value).is_some() {
                return Err(Error::invalid(format!("{name}: stands in the query and in the body; give it once")));
            }
        }
        Ok(())
    }

    fn from_json(body: &[u8]) -> Result<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map.into_iter().collect())),
            Ok(_) => Err(Error::invalid("the body must be a JSON object: {\"image\": \"…\"}")),
            Err(error) => Err(Error::invalid(format!("the body is not JSON: {error}"))),
        }
    }

    fn from_form(body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|_| Error::invalid("the body is not a form: it is not UTF-8"))?;
        let mut fields = Self::default();
        for field in rocket::form::Form::values(text.trim_end_matches(['\r', '\n'])) {
            let name = field.name.source().as_str();
            if !name.is_empty() {
                let decoded = |t: &str| rocket::http::RawStr::new(t).url_decode_lossy().into_owned();
                fields.append(&decoded(name), &decoded(field.value));
            }
        }
        Ok(fields)
    }

    /// Takes what was sent under `name`; JSON's null is as good as nothing.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Whether something was sent under `name`, even null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether what was sent under `name` is a list.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_array)
    }

    /// Whether what was sent under `name` is this word.
    pub(super) fn is(&self, name: &str, word: &str) -> bool {
        self.0.get(name).and_then(Value::as_str) == Some(word)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// A text or a number, as text.
    pub(super) fn scalar(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text or a number", &other)),
        }
    }

    /// Texts: a list, or one alone.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(name, "a text or a list of texts", &other)),
        };
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => values.into_iter().map(text).collect::<Result<_>>().map(Some),
            Some(one) => Ok(Some(vec![text(one)?])),
        }
    }

    /// Names with values: an object, or texts `name=value`.
    pub(super) fn pairs(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>> {
        if let Some(Value::Object(_)) = self.0.get(name) {
            let Some(Value::Object(map)) = self.take(name) else { return Ok(None) };
            let pair = |(key, value)| match value {
                Value::String(text) => Ok((key, text)),
                other => Err(wrong(&format!("{name}.{key}"), "a text", &other)),
            };
            return map.into_iter().map(pair).collect::<Result<_>>().map(Some);
        }
        let Some(texts) = self.texts(name)? else { return Ok(None) };
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::invalid(format!("{name}: {text:?} is not name=value"))),
        };
        texts.into_iter().filter(|t| !t.is_empty()).map(pair).collect::<Result<_>>().map(Some)
    }

    /// A truth value: `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// Ends the reading: what is left is unknown here.
    pub(super) fn finish(self, known: &[&str]) -> Result<()> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                Err(Error::invalid(format!("{name}: unknown field; known are {}", known.join(", "))))
            }
        }
    }
}

fn wrong(name: &str, wanted: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    Error::invalid(format!("{name}: must be {wanted}, not {found}"))
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Form,
}

impl Format {
    /// From the content type; without one a body that opens a brace is JSON.
    fn of(request: &Request<'_>, body: &[u8]) -> Option<Self> {
        match request.content_type() {
            Some(kind) if kind.is_json() || kind.media_type().sub().as_str().ends_with("+json") => Some(Self::Json),
            Some(kind) if kind.is_form() => Some(Self::Form),
            Some(_) if body.is_empty() => Some(Self::Form),
            Some(_) => None,
            None if body.trim_ascii_start().starts_with(b"{") => Some(Self::Json),
            None => Some(Self::Form),
        }
    }
}

/// The body, or `None` if it is longer than `limit`.
async fn receive(data: Data<'_>, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let (mut stream, mut body) = (data.open((limit * PATIENCE).bytes()), Vec::new());
    (&mut stream).take(limit as u64 + 1).read_to_end(&mut body).await?;
    if body.len() <= limit {
        return Ok(Some(body));
    }
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(None)
}

/// Reads query and body; the body may be `limit` bytes long.
async fn read(request: &Request<'_>, data: Data<'_>, limit: usize) -> std::result::Result<Fields, (Status, Error)> {
    let bad = |error| (Status::BadRequest, error);
    let body = tokio::time::timeout(BODY_TIME, receive(data, limit)).await;
    let body = body.map_err(|_| (Status::RequestTimeout, Error::invalid("the body took too long to arrive")))?;
    let body = body.map_err(|e| bad(Error::invalid("the body could not be read").caused_by(e)))?;
    let too_large =
        || (Status::PayloadTooLarge, Error::invalid(format!("the body is too large: at most {limit} bytes")));
    let body = body.ok_or_else(too_large)?;
    let format = Format::of(request, &body).ok_or_else(|| {
        let message = "send application/json or application/x-www-form-urlencoded";
        (Status::UnsupportedMediaType, Error::invalid(message))
    })?;
    let mut fields = Fields::from_query(request);
    fields.add_body(&body, format).map_err(bad)?;
    Ok(fields)
}

async fn outcome<'r>(request: &'r Request<'_>, data: Data<'r>, limit: usize) -> DataOutcome<'r, Fields, ()> {
    match read(request, data, limit).await {
        Ok(fields) => Outcome::Success(fields),
        Err((status, error)) => Outcome::Error((Refusal::leave(request, status, error), ())),
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for Fields {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> DataOutcome<'r, Self, ()> {
        outcome(request, data, BODY_LIMIT).await
    }
}

impl IntoResponses for Fields {
    fn responses() -> Responses {
        refusals(&[400, 408, 413, 415])
    }
}

/// The fields of a request whose body may hold a kibibyte and no more.
#[derive(Debug)]
pub(super) struct SmallFields(pub Fields);

#[rocket::async_trait]
impl<'r> FromData<'r> for SmallFields {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> DataOutcome<'r, Self, ()> {
        outcome(request, data, 1 << 10).await.map(Self)
    }
}

impl IntoResponses for SmallFields {
    fn responses() -> Responses {
        Fields::responses()
    }
}

/// The fields of a request without a body.
#[derive(Debug)]
pub(super) struct QueryFields(pub Fields);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for QueryFields {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        Outcome::Success(Self(Fields::from_query(request)))
    }
}

impl IntoResponses for QueryFields {
    fn responses() -> Responses {
        refusals(&[400])
    }
}

/// Names a field in the message of an error about its value.
pub(super) fn about<T>(name: &str, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| {
        let message = error.message();
        let prefix = format!("{name}: ");
        let message = if message.starts_with(&prefix) { message.to_owned() } else { format!("{prefix}{message}") };
        Error::new(Kind::Invalid, message)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(text: &str) -> Fields {
        Fields::from_form(text.as_bytes()).unwrap()
    }

    #[test]
    fn json_and_forms_say_the_same() {
        let json = br#"{"image": "a", "labels": {"x": "1", "y": "2"}, "memory": 5, "command": ["ls", "-l"]}"#;
        for mut fields in
            [Fields::from_json(json).unwrap(), form("image=a&labels=x=1&labels=y%3D2&memory=5&command=ls&command=-l")]
        {
            assert_eq!(fields.text("image").unwrap().as_deref(), Some("a"));
            assert_eq!(
                fields.pairs("labels").unwrap().unwrap().into_iter().collect::<Vec<_>>(),
                [("x".into(), "1".into()), ("y".into(), "2".into())]
            );
            assert_eq!(fields.scalar("memory").unwrap().as_deref(), Some("5"));
            assert_eq!(fields.texts("command").unwrap().unwrap(), ["ls", "-l"]);
            fields.finish(&[]).unwrap();
        }
    }

    #[test]
    fn wrong_types_and_unknown_fields_are_named() {
        let mut fields = Fields::from_json(br#"{"image": 5, "labels": {"x": 1}, "flag": "yes", "odd": null}"#).unwrap();
        assert!(fields.text("image").unwrap_err().message().starts_with("image: "));
        assert!(fields.pairs("labels").unwrap_err().message().starts_with("labels.x: "));
        assert!(fields.flag("flag").unwrap_err().message().contains("true or false"));
        assert!(fields.finish(&["image"]).unwrap_err().message().contains("odd: unknown field; known are image"));
        for bad in ["[]", "5", "{", "{\"a\": }", "\u{0}"] {
            assert!(Fields::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_field_is_given_once() {
        let mut fields = form("a=1");
        assert!(fields.add_body(b"a=2", Format::Form).is_err());
        assert!(form("a=1&a=2").text("a").is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::from_json(&body);
            if let Ok(mut fields) = Fields::from_form(&body) {
                let _ = fields.pairs("a");
                let _ = fields.finish(&[]);
            }
        }
    }
}
