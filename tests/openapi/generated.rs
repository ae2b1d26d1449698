//! Requests made up from the document, valid ones and broken ones: whatever is asked, the answer is documented and no
//! fault of the server's, which `support::local` checks.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rocket::http::Method;
use serde_json::{Map, Value, json};
use spindown::model::{Image, Protocol};

use crate::support::{
    document::document,
    local::{Ask, Local},
};

/// How many requests a test sends.
const REQUESTS: usize = 3_000;

/// Texts that are no fields' own.
const TEXTS: [&str; 14] = [
    "",
    "a",
    "0",
    "-1",
    "ada",
    "running",
    "90m",
    "x=y",
    "\u{0}",
    "é\u{202e}🦀",
    "../..",
    "%zz",
    "a b&c=d",
    "{\"a\": 1}",
];

struct Maker {
    rng: StdRng,
    /// What containers may be called by.
    names: Vec<String>,
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        from.choose(&mut self.rng).expect("something to choose from")
    }

    fn text(&mut self) -> String {
        match self.rng.random_range(0..10) {
            0 => "a".repeat(self.rng.random_range(50..5_000)),
            1 => (0..8).map(|_| self.rng.random::<char>()).collect(),
            _ => (*self.pick(&TEXTS)).to_owned(),
        }
    }

    /// Any JSON.
    fn anything(&mut self) -> Value {
        match self.rng.random_range(0..8) {
            0 => Value::Null,
            1 => json!(self.rng.random::<bool>()),
            2 => json!(self.rng.random::<i64>()),
            3 => json!(self.rng.random_range(-2.0..2.0)),
            4 => json!([self.text(), self.rng.random::<u8>()]),
            5 => json!({ self.text(): self.text() }),
            _ => json!(self.text()),
        }
    }

    /// A value that a schema allows, or close to it.
    fn value(&mut self, schema: &Value) -> Value {
        if let Some(examples) = schema["examples"].as_array()
            && self.chance(70)
        {
            return self.pick(examples).clone();
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = document().json.pointer(reference.trim_start_matches('#')).expect("it leads somewhere");
            return self.value(schema);
        }
        for choices in ["enum", "oneOf", "anyOf", "allOf"] {
            if let Some(choices_given) = schema[choices].as_array() {
                let choice = self.pick(choices_given).clone();
                return if choices == "enum" { choice } else { self.value(&choice) };
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.pick(kinds).clone(),
            other => other.clone(),
        };
        match kind.as_str() {
            Some("null") => Value::Null,
            Some("boolean") => json!(self.rng.random::<bool>()),
            Some("integer") => {
                let least = schema["minimum"].as_i64().unwrap_or(0);
                let most = schema["maximum"].as_i64().unwrap_or(1 << 40);
                json!(if self.chance(30) { most } else { self.rng.random_range(least..=most) })
            }
            Some("number") => json!(self.rng.random_range(0.0..4.0)),
            Some("array") => (0..self.rng.random_range(0..4)).map(|_| self.value(&schema["items"])).collect(),
            Some("object") => self.object(schema),
            _ => json!(self.text()),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut object = Map::new();
        let properties = schema["properties"].as_object();
        // About two of many: where each may be wrong, all together would hardly ever be right.
        let share = properties.map_or(30, |all| (200 / all.len().max(1) as u32).clamp(10, 30));
        for (name, property) in properties.into_iter().flatten() {
            let needed = schema["required"].as_array().is_some_and(|r| r.contains(&json!(name)));
            if needed || self.chance(share) {
                let value = if self.chance(4) { self.anything() } else { self.value(property) };
                object.insert(name.clone(), value);
            }
        }
        if schema["additionalProperties"].is_object() {
            object.insert(self.text(), self.value(&schema["additionalProperties"]));
        }
        if self.chance(3) {
            object.insert(self.text(), self.anything());
        }
        Value::Object(object)
    }

    /// One request for an operation.
    fn ask(&mut self, method: &str, path: &str, operation: &Value) -> Ask {
        let mut uri = String::new();
        for part in path.split('/').skip(1) {
            uri.push('/');
            match part.strip_prefix('{') {
                Some("tag}") if self.chance(80) => {
                    uri.push_str(&format!("spare/image:{}", self.rng.random_range(0..99)))
                }
                Some(_) if self.chance(80) && !self.names.is_empty() => {
                    uri.push_str(&self.names.choose(&mut self.rng).unwrap().clone())
                }
                Some(_) => uri.push_str(&encoded(&self.text())),
                None => uri.push_str(part),
            }
        }
        let mut fields = Vec::new();
        let mut headers = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "path" || !self.chance(40) {
                continue;
            }
            let name = parameter["name"].as_str().unwrap().to_owned();
            let value = if self.chance(15) { self.anything() } else { self.value(&parameter["schema"]) };
            match parameter["in"].as_str() {
                Some("query") => fields.extend(written(&name, &value)),
                _ => headers.push((name, plain(&value))),
            }
        }
        if self.chance(3) {
            fields.push((self.text(), self.text()));
        }
        if !fields.is_empty() {
            uri = format!("{uri}?{}", form(&fields));
        }
        let method: Method = method.parse().unwrap();
        let mut ask = if self.chance(97) { Ask::new(method, &uri) } else { Ask::open(method, &uri) };
        if self.chance(2) {
            ask = ask.header("Sec-Fetch-Site", "cross-site");
        }
        for (name, value) in headers {
            // What no header can hold is sent by nobody.
            if value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                ask = ask.header(&name, &value);
            }
        }
        let schemas = operation["requestBody"]["content"].as_object();
        let Some((kind, content)) = schemas.and_then(|s| s.iter().collect::<Vec<_>>().choose(&mut self.rng).copied())
        else {
            return ask;
        };
        let value = if self.chance(3) { self.anything() } else { self.value(&content["schema"]) };
        let mut body = match &value {
            Value::Object(object) if kind.ends_with("urlencoded") => {
                form(&object.iter().flat_map(|(name, value)| written(name, value)).collect::<Vec<_>>())
            }
            other => other.to_string(),
        };
        if self.chance(3) {
            let at = (0..=body.len()).filter(|at| body.is_char_boundary(*at)).collect::<Vec<_>>();
            body.truncate(*self.pick(&at));
        }
        let kind = if self.chance(3) { *self.pick(&["", "text/plain", "application/json", "odd"]) } else { kind };
        ask.body(kind, body)
    }
}

/// A field as a form or a query has it, once for each value of a list.
fn written(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Array(values) => values.iter().map(|value| (name.to_owned(), plain(value))).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (name.to_owned(), format!("{k}={}", plain(v)))).collect(),
        other => vec![(name.to_owned(), plain(other))],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn form(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

async fn run(seed: u64) {
    let mut local = Local::new().await;
    // The images that the document's examples name.
    let exposed = vec![(80, Protocol::Tcp)];
    local.world.sim.add_image("spindown/ssh", Image { exposed: exposed.clone(), ..Image::default() });
    local.world.sim.publish("spindown/ssh", Image { exposed, ..Image::default() }, None);
    for number in 0..99 {
        local.world.sim.add_image(&format!("spare/image:{number}"), Image::default());
    }
    let mut maker = Maker { rng: StdRng::seed_from_u64(seed), names: Vec::new() };
    let item = |(path, item): (&'static String, &'static Value)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    };
    let operations: Vec<_> = document().paths().iter().flat_map(item).collect();
    let mut answered = BTreeMap::<(&str, &str), BTreeMap<u16, usize>>::new();
    for _ in 0..REQUESTS {
        let (method, path, operation) = *maker.pick(&operations);
        let mut ask = maker.ask(method, path, operation);
        if maker.chance(90)
            && let Some(address) = local.world.list().first().and_then(|report| report.container.address)
            && path == "/v1/check-in"
        {
            ask.from = address.into();
        } else if maker.chance(5) {
            ask.from = Ipv4Addr::new(192, 0, 2, 1).into();
        }
        local.world.gap(Duration::from_millis(50));
        let reply = local.send(&ask).await;
        if reply.status == 201 {
            maker.names.extend(["id", "container_id"].map(|name| reply.json()[name].as_str().unwrap().to_owned()));
        }
        *answered.entry((method, path)).or_default().entry(reply.status).or_default() += 1;
    }
    // Every operation has done what it is for, and those that read fields have refused some.
    for (method, path, operation) in operations {
        let seen = &answered[&(method, path)];
        let done = seen.keys().any(|status| *status < 300) || path == "/docs/{file}";
        assert!(done, "{method} {path} was answered with {seen:?} only");
        if operation["requestBody"].is_object() {
            assert!([400, 415].iter().any(|status| seen.contains_key(status)), "{method} {path}: {seen:?}");
        }
    }
    eprintln!("seed {seed}: {answered:#?}");
}

#[tokio::test(start_paused = true)]
async fn requests_of_the_document_are_answered_as_it_says() {
    run(1).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_differ_each_time_are_answered_as_it_says() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    run(seed).await;
}
