//! How fields may be written, for the document: `http::fields` reads them. Nothing is ever read into these types.
#![expect(dead_code, reason = "described, and never made")]

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

/// A text, or a list of texts; in a form, the field is repeated.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Texts {
    One(String),
    Several(Vec<String>),
}

/// Names with values: an object of texts, or `name=value`, once or in a list; in a form, the field is repeated.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Pairs {
    Object(BTreeMap<String, String>),
    One(String),
    Several(Vec<String>),
}

/// A whole number, or a text with a unit.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Amount {
    Number(u64),
    Text(String),
}

/// Seconds, or a duration with units.
#[derive(Deserialize, ToSchema)]
#[schema(examples("90m", 5400))]
#[serde(untagged)]
pub(in crate::http) enum Span {
    Seconds(u64),
    Text(String),
}

/// A number, or one as text.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Number {
    Number(f64),
    Text(String),
}
