//! The documentation is true: its examples run, and its tables name what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
};

use reqwest::Method;
use serde_json::Value;
use spindown::{
    meter::{Form, METRICS},
    model::What,
};

use crate::support::server::{Server, run};

/// How long the examples of a page may take.
const PATIENCE: &str = "150";

/// What differs from a terminal: a failed request fails the example, each answer is a line of its own, and ssh neither asks nor looks at other keys. It
/// takes the home folder from the user database rather than from `HOME`.
const WRAPPERS: &str = r#"
curl() { command curl --fail-with-body -sS "$@" && echo; }
ssh() {
    command ssh -F none -i "$HOME/.ssh/id_ed25519" -o BatchMode=yes -o ConnectTimeout=10 \
        -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="$HOME/.ssh/known_hosts" "$@"
}
trap 'echo "failed: $place" >&2' ERR
set -E
"#;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The blocks of a page in this language, each with the number of its first line.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(opened) = line.strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        if opened == language {
            found.push((number + 2, block));
        }
    }
    found
}

/// Runs the page's examples in one shell against a server of its own, and answers what they printed.
fn run_examples(path: &str) -> String {
    let server = Server::start(&[]);
    let text = page(path);
    let blocks = blocks(&text, "bash");
    assert!(!blocks.is_empty(), "{path} has no examples");
    let mut script = WRAPPERS.to_owned();
    for (line, block) in blocks {
        script.push_str(&format!("place={path}:{line}\n{}\n", block.join("\n")));
    }
    // An image that an example makes is kept, as those of the other tests are: making it again is quick then.
    let script = script.replace("http://localhost:8080", &server.url).replace("web-sandbox", "spindown-test/web");
    assert!(!script.contains("localhost:8080"), "an address that the test does not know");
    let script = own_names(&script, server.block.instance().as_str());

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("examples");
    fs::write(&file, script).unwrap();
    fs::create_dir(home.path().join(".ssh")).unwrap();
    let key = home.path().join(".ssh/id_ed25519");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    let output = Command::new("timeout")
        .args([PATIENCE, "bash", "-euo", "pipefail"])
        .arg(&file)
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{told}\n{errors}\n{}", output.status, server.log());
    told.into_owned()
}

/// The containers' names with that of the instance behind them: the engine has each name once, whoever asks for it.
fn own_names(script: &str, instance: &str) -> String {
    let mut own = script.to_owned();
    for name in ["mine", "ada", "bob", "robert", "eve", "web"] {
        for before in [" name=", "\"name\": \"", "/containers/", "after="] {
            own = own.replace(&format!("{before}{name}"), &format!("{before}{name}-{instance}"));
        }
    }
    own = own.replace("eve-home", &format!("eve-home-{instance}"));
    own
}

#[test]
fn docker_runs_the_examples_of_the_readme() {
    let told = run_examples("README.md");
    assert!(told.lines().any(|line| line == "hello"), "the file is not there after the stop: {told}");
}

#[test]
fn docker_runs_the_examples_of_the_api() {
    let told = run_examples("docs/api.md");
    // The second create with the same key made no second container.
    let made: BTreeSet<_> = told.split("\"name\":\"/bob-").skip(1).map(|rest| member(rest, "id")).collect();
    assert_eq!(made.len(), 1, "{told}");
    // What ssh-keyscan found is what the API tells.
    let scanned = told.lines().find_map(|line| line.strip_prefix("256 ")).unwrap().split(' ').next().unwrap();
    assert!(told.contains(&format!("\"ssh-ed25519 {scanned}\"")), "{told}");
    assert!(told.contains("active-connections=1 to "), "{told}");
}

#[test]
fn docker_runs_the_examples_of_the_images() {
    let told = run_examples("docs/images.md");
    assert!(told.contains("<h1>It works</h1>"), "{told}");
    let text = page("docs/images.md");
    let shown = &blocks(&text, "console")[0].1;
    assert!(told.lines().any(|line| shown == &[line]), "the count is not {shown:?}: {told}");
}

#[test]
fn json_examples_are_json() {
    for path in ["README.md", "docs/api.md", "docs/images.md"] {
        for (line, block) in blocks(&page(path), "json") {
            assert!(serde_json::from_str::<Value>(&block.join("\n")).is_ok(), "{path}:{line}");
        }
    }
}

/// The text of a member in JSON that is not cut to size.
fn member(json: &str, name: &str) -> String {
    let (_, rest) = json.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The rows of the first table below a heading (none: the page's top) whose first column has this title: its cells, without their backticks.
fn table(page: &str, heading: &str, title: &str) -> Vec<Vec<String>> {
    let heading = if heading.is_empty() { "\n" } else { &format!("\n{heading}\n") };
    let below = page.split_once(heading).map(|(_, below)| below).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let rows =
        below.lines().skip_while(|line| !line.starts_with(&format!("| {title} |"))).take_while(|l| l.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|c| c.trim().trim_matches('`').to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table {title:?} below {heading:?}");
    rows
}

/// The paths of all members of an answer; `labels` and `volumes` have names of the caller's.
fn members(value: &Value, prefix: &str, found: &mut BTreeMap<String, bool>) {
    match value {
        Value::Object(map) if !["labels", "volumes"].contains(&prefix) => {
            for (name, value) in map {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                found.insert(path.clone(), value.is_null());
                members(value, &path, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, &format!("{prefix}[]"), found)),
        _ => {}
    }
}

/// Every member of the answer stands in the table, and every one of the table is in the answer, except below one that is
/// null there, and those that are told to be there only at times.
fn compare(answer: &Value, table: &[Vec<String>], what: &str) {
    let mut live = BTreeMap::new();
    members(answer, "", &mut live);
    let documented: BTreeSet<&str> = table.iter().map(|row| row[0].as_str()).collect();
    let any_part = |path: &str| {
        let parts: Vec<&str> = path.split('.').collect();
        match parts[..] {
            ["checks", _, last] => format!("checks.*.{last}"),
            _ => path.to_owned(),
        }
    };
    let unknown: Vec<_> = live.keys().filter(|path| !documented.contains(&*any_part(path))).collect();
    assert!(unknown.is_empty(), "{what}: not documented: {unknown:?}");
    let shown: BTreeSet<String> = live.keys().map(|path| any_part(path)).collect();
    for row in table {
        let path = &row[0];
        let below_null = live.iter().any(|(of, null)| *null && path.starts_with(&format!("{of}.")));
        assert!(
            shown.contains(path) || below_null || row[1].starts_with("only "),
            "{what}: documented, but not there: {path} in {answer:#}"
        );
    }
}

#[test]
fn every_metric_is_documented_and_the_board_shows_no_other() {
    let form = |form| match form {
        Form::Counter => "counter",
        Form::Gauge => "gauge",
        Form::Histogram => "histogram",
    };
    let known: BTreeMap<&str, &str> = METRICS.iter().map(|(name, of, _)| (*name, form(*of))).collect();
    let rows = table(&page("docs/monitoring.md"), "## Metrics", "metric");
    let documented: BTreeMap<&str, &str> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(documented, known);

    let board: Value = serde_json::from_str(&page("docs/grafana/spindown.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let named = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in named.filter(|word| word.starts_with("spindown_") || word.starts_with("process_")) {
                let series = ["_bucket", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                assert!(known.contains_key(series), "{}: {name}", panel["title"]);
                shown.insert(series.to_owned());
            }
        }
    }
    assert_eq!(shown, known.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
}

#[test]
fn every_event_is_documented() {
    let rows = table(&page("docs/monitoring.md"), "## Events", "event");
    let documented: BTreeSet<String> =
        rows.iter().flat_map(|row| row[0].split(", ")).map(|word| word.trim_matches('`').to_owned()).collect();
    let known = What::ALL.map(|what| what.as_str()).into_iter().chain(["gap"]);
    assert_eq!(documented, known.map(str::to_owned).collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn docker_shows_what_the_tables_of_the_api_tell() {
    let server = Server::start(&[]);
    let api = page("docs/api.md");
    let (mut fields, mut routes) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for row in table(&api, "", "route") {
        let (method, path) = row[0].trim_start_matches("[`").split_once("`]").unwrap().0.split_once(' ').unwrap();
        routes.entry(path.to_owned()).or_default().insert(method.to_owned());
    }
    for (path, documented) in routes {
        let answer = server.call(Method::PUT, &path, "").await;
        let mut allowed = documented;
        if path == "/v1/containers/bulk" {
            // A container may be called so.
            allowed.extend(["GET", "PATCH", "DELETE"].map(str::to_owned));
        }
        if allowed.contains("GET") {
            allowed.insert("HEAD".to_owned());
        }
        let allowed: Vec<_> = allowed.into_iter().collect();
        assert_eq!(answer.headers["allow"].to_str().unwrap(), allowed.join(", "), "{path}");
    }

    let made = server.create("labels=course=rust").await;
    let uri = made["uri"].as_str().unwrap().to_owned();
    compare(&made, &table(&api, "### The container", "member"), "the container");
    let measured = server.wait_for(&uri, "measured", |a| a.json["disk"].is_object()).await;
    compare(&measured.json, &table(&api, "### The container", "member"), "the container, measured");
    compare(&server.get("/v1/disk").await.json, &table(&api, "## Disk", "member"), "the disk");
    let has_reported = |a: &crate::support::server::Answer| a.json["evidence"].to_string().contains("check-in");
    let activity = server.wait_for(&format!("{uri}/activity"), "reported", has_reported).await;
    compare(&activity.json, &table(&api, "## Activity", "member"), "the activity");
    let health = server.send(server.request(Method::GET, "/health", "")).await;
    compare(&health.json, &table(&api, "## Health", "member"), "health");
    compare(&server.get("/v1/containers/nobody").await.json, &table(&api, "## Errors", "member"), "an error");

    let started = server.post("/v1/containers/bulk", "action=start&label=course=rust").await;
    compare(&started.json, &table(&api, "## Bulk", "member"), "a bulk start");

    // The error about an unknown field names those that are known.
    fields.push(("## Create", server.post("/v1/containers", r#"{"image": "x", "odd": "1"}"#).await));
    fields.push(("## Change", server.patch(&uri, "odd=1&status=running").await));
    fields.push(("## Extend", server.post(&format!("{uri}/extend"), "odd=1&by=1h").await));
    fields.push(("## Events", server.get("/v1/events?odd=1").await));
    fields.push(("## Delete", server.delete(&format!("{uri}?odd=1")).await));
    fields.push(("## Bulk", server.post("/v1/containers/bulk", "odd=1&action=stop&label=a").await));
    fields.push(("## List", server.get("/v1/containers?odd=1").await));
    fields.push(("## Logs", server.get(&format!("{uri}/logs?odd=1")).await));
    for (heading, refusal) in fields {
        let told = refusal.json["message"].as_str().unwrap().split_once("known are ").unwrap().1.to_owned();
        let documented: Vec<_> = table(&api, heading, "field").into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(told, documented.join(", "), "{heading}");
    }
}

/// What `spindown config` prints with these variables: keys with their values as text.
fn effective(variables: &[(String, String)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spindown"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ROCKET_") || n.starts_with("SPINDOWN_")) {
        command.env_remove(name);
    }
    let output = command.arg("config").current_dir(folder.path()).envs(variables.iter().cloned()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    flatten(&String::from_utf8(output.stdout).unwrap().parse().unwrap(), "", &mut found);
    found.remove("profile");
    found
}

fn flatten(table: &toml::Table, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(inner, &format!("{prefix}{key}."), found),
            toml::Value::String(text) => drop(found.insert(format!("{prefix}{key}"), text.clone())),
            other => drop(found.insert(format!("{prefix}{key}"), other.to_string())),
        }
    }
}

#[test]
fn every_key_of_the_configuration_is_documented_with_its_default_and_variable() {
    let rows = table(&page("docs/configuration.md"), "## Keys", "key");
    let with = |default: &str| -> BTreeMap<String, String> {
        rows.iter().map(|row| (row[0].clone(), row[1].replace("none", default))).collect()
    };
    let set: BTreeMap<_, _> = with("none").into_iter().filter(|(_, default)| default != "none").collect();
    assert_eq!(effective(&[]), set);

    // The variables are what they are called: all are known, and those without a default show.
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
    let variables = rows.iter().map(|row| {
        let value = match row[0].as_str() {
            "spindown.redis_url" => "redis://127.0.0.1:1/0",
            "spindown.auth.password_hash" => hash,
            _ => &row[1],
        };
        (row[2].clone(), value.to_owned())
    });
    let all = effective(&variables.collect::<Vec<_>>());
    assert_eq!(all.keys().collect::<Vec<_>>(), with("").keys().collect::<Vec<_>>());
    for row in &rows {
        let key =
            row[0].strip_prefix("spindown.").map_or_else(|| format!("ROCKET_{}", row[0]), |k| format!("SPINDOWN_{k}"));
        assert_eq!(row[2], key.replace('.', "_").to_uppercase(), "{}", row[0]);
    }
}
