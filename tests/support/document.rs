//! Holds answers to the OpenAPI document: what is answered must be documented, to the last member.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock},
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The headers of an answer, their names in small letters.
pub type Headers = BTreeMap<String, String>;

/// Headers that tell a caller something: where one is answered, it is documented.
const TELLING: [&str; 4] = ["location", "retry-after", "www-authenticate", "allow"];
/// Documented, and not always there.
const SOMETIMES: &str = "retry-after";
const PROBLEM: &str = "application/problem+json";

/// The document, with what has been made of its schemas.
pub struct Document {
    pub json: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// The document of the code under test.
pub fn document() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut json = serde_json::to_value(spindown::http::openapi::document()).unwrap();
        close(&mut json["components"]["schemas"]);
        Document { json, validators: Mutex::default() }
    })
}

/// Lets an object have the documented members and no others. For readers of the document it is open: there may be more
/// one day.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            if map.get("properties").is_some_and(|p| p.get("type").is_none_or(Value::is_object)) {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

impl Document {
    /// The paths, each with its operations by method.
    pub fn paths(&self) -> &Map<String, Value> {
        self.json["paths"].as_object().unwrap()
    }

    /// The paths of the document that lead where `path` does. One that names the segment comes before one that takes any.
    fn templates(&self, path: &str) -> Vec<&str> {
        let segments = |path: &str| path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let given = segments(path.split(['?', '#']).next().unwrap_or_default());
        let fits = |template: &&String| {
            let parts = segments(template);
            // An image's name has slashes of its own.
            let long = parts.last().is_some_and(|last| last == "{tag}") && given.len() > parts.len();
            let agree = parts.iter().zip(&given).all(|(p, g)| p.starts_with('{') || p == g);
            agree && (long || parts.len() == given.len())
        };
        let mut found: Vec<_> = self.paths().keys().filter(fits).map(String::as_str).collect();
        found.sort_by_key(|template| template.matches('{').count());
        found
    }

    /// The methods of a path that these lead to, as `Allow` tells them.
    fn methods(&self, templates: &[&str]) -> String {
        let methods = templates.iter().flat_map(|template| self.paths()[*template].as_object().unwrap().keys());
        let mut methods: Vec<_> = methods.map(|m| m.to_uppercase()).collect();
        if methods.iter().any(|m| m == "GET") {
            methods.push("HEAD".to_owned());
        }
        methods.sort_unstable();
        methods.dedup();
        methods.join(", ")
    }

    /// Checks one answer.
    ///
    /// # Errors
    /// In what it is not as documented.
    pub fn check(&self, method: &str, path: &str, status: u16, headers: &Headers, body: &[u8]) -> Result<(), String> {
        let refused = |why: String| {
            let body = String::from_utf8_lossy(&body[..body.len().min(2_000)]);
            Err(format!("not as documented: {method} {path} is answered {status}: {why}\n{headers:?}\n{body}"))
        };
        let body = (method != "HEAD").then_some(body);
        let templates = self.templates(path);
        if templates.is_empty() {
            let outcome = if status == 404 { self.is_problem(headers, body) } else { Err("not 404".to_owned()) };
            return outcome.or_else(|why| refused(format!("there is no such path: {why}")));
        }
        let name = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
        let operation = templates.iter().find_map(|template| Some((template, self.paths()[*template].get(&name)?)));
        let Some((template, operation)) = operation else {
            let allowed = self.methods(&templates);
            if status != 405 || headers.get("allow") != Some(&allowed) {
                return refused(format!("it has {allowed}"));
            }
            return self.is_problem(headers, body).or_else(refused);
        };
        match operation["responses"].get(status.to_string()) {
            Some(documented) => self.compare(documented, headers, body).or_else(refused),
            None => refused(format!("the statuses of {template} are {}", names(&operation["responses"]))),
        }
    }

    fn compare(&self, documented: &Value, headers: &Headers, body: Option<&[u8]>) -> Result<(), String> {
        let told: Vec<String> = documented["headers"]
            .as_object()
            .map(|headers| headers.keys().map(|name| name.to_lowercase()).collect())
            .unwrap_or_default();
        if let Some(missing) = told.iter().find(|name| *name != SOMETIMES && !headers.contains_key(*name)) {
            return Err(format!("the header {missing} is missing"));
        }
        if let Some(more) = TELLING.iter().find(|name| headers.contains_key(**name) && !told.iter().any(|t| t == *name))
        {
            return Err(format!("the header {more} is not documented"));
        }
        if headers.get(SOMETIMES).is_some_and(|seconds| seconds.parse::<u32>().is_err()) {
            return Err(format!("{SOMETIMES} is no number of seconds"));
        }
        let Some(content) = documented["content"].as_object().filter(|content| !content.is_empty()) else {
            return if body.is_some_and(|b| !b.is_empty()) { Err("it has a body".to_owned()) } else { Ok(()) };
        };
        let kind = headers.get("content-type").map(String::as_str).unwrap_or_default();
        let Some(content) = content.get(kind) else {
            return Err(format!("the content type {kind:?} is none of {}", names(&documented["content"])));
        };
        match body {
            Some(body) if kind == "application/x-ndjson" => {
                let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines.try_for_each(|line| self.validate(&content["schema"], line))
            }
            Some(body) if kind.ends_with("json") => self.validate(&content["schema"], body),
            _ => Ok(()),
        }
    }

    /// Whether this is an error as every error is told.
    fn is_problem(&self, headers: &Headers, body: Option<&[u8]>) -> Result<(), String> {
        if headers.get("content-type").is_none_or(|kind| kind != PROBLEM) {
            return Err(format!("it is no {PROBLEM}"));
        }
        body.map_or(Ok(()), |body| self.validate(&json!({"$ref": "#/components/schemas/Problem"}), body))
    }

    fn validate(&self, schema: &Value, body: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let errors: Vec<_> = self
            .validator(schema)
            .iter_errors(&value)
            .map(|error| format!("at {:?}: {error}", error.instance_path().to_string()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    /// What checks a value against a schema of the document.
    pub fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(|e| e.into_inner());
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.json["components"]});
            let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
            Arc::new(options.should_validate_formats(true).build(&whole).unwrap())
        });
        Arc::clone(validator)
    }
}

fn names(object: &Value) -> String {
    object.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
}
