//! Whatever a caller can get wrong, and what he is told.

use reqwest::Method;

use super::{assert_problem, image, light_image, look, text};
use crate::support::server::{Answer, Server, run};

/// A request as it stands here, with the documented credentials.
async fn send(server: &Server, method: &str, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = server.request(method.parse().unwrap(), path, "").basic_auth("admin", Some("spindocker"));
    let request = if kind.is_empty() { request } else { request.header("Content-Type", kind) };
    server.send(request.body(body)).await
}

#[tokio::test]
async fn a_bad_create_is_refused_by_field() {
    let server = Server::start(&[]);
    let path = "/v1/containers";
    let keys = format!("image=x&authorized_keys={}", "ssh-ed25519 AAAA".replace(' ', "+"));
    let tables = format!("image=x&keep_awake={}", "0+9+*+*+*+for+1h;".repeat(17));
    let cases: &[(&str, u16, &[&str])] = &[
        ("", 400, &["image: is needed"]),
        ("{}", 400, &["image: is needed"]),
        (r#"{"image": null}"#, 400, &["image: is needed"]),
        (r#"{"image": ""}"#, 400, &["image"]),
        (r#"{"image": 5}"#, 400, &["image: must be a text, not the number 5"]),
        (r#"{"image": ["x"]}"#, 400, &["image: must be a text, not a list"]),
        (r#"{"image": {"name": "x"}}"#, 400, &["image: must be a text, not an object"]),
        (r#"{"image": true}"#, 400, &["image: must be a text"]),
        (r#"{"image": "../x"}"#, 400, &["cannot be an image's name"]),
        (r#"{"image": "x?y=z"}"#, 400, &["cannot be an image's name"]),
        (r#"{"image": "x", "imgae": "y"}"#, 400, &["imgae: unknown field", "known are image, name"]),
        (r#"{"image": "x", "privileged": true}"#, 400, &["privileged: unknown field"]),
        (r#"{"image": "x""#, 400, &["not JSON", "line 1"]),
        (r#"{"image": "x",}"#, 400, &["not JSON"]),
        (r#"["x"]"#, 400, &["must be a JSON object"]),
        ("image=x&image=y", 400, &["image: must be a text, not a list"]),
        ("image=x&name=a", 400, &["name: \"a\" cannot be a name"]),
        ("image=x&name=../a", 400, &["name"]),
        ("image=x&name=0123456789ab", 400, &["could be taken for an id"]),
        ("image=x&idle_timeout=soon", 400, &["idle_timeout", "\"soon\"", "never"]),
        ("image=x&idle_timeout=0", 400, &["idle_timeout", "at least 1 second"]),
        ("image=x&idle_timeout=-1", 400, &["idle_timeout"]),
        (r#"{"image": "x", "idle_timeout": 1.5}"#, 400, &["idle_timeout", "1.5"]),
        (r#"{"image": "x", "idle_timeout": true}"#, 400, &["idle_timeout: must be a text or a number"]),
        ("image=x&freeze_after=soon", 400, &["freeze_after: ", "\"soon\"", "never"]),
        ("image=x&delete_after=0", 400, &["delete_after: ", "at least 1 second"]),
        (r#"{"image": "x", "max_age": -1}"#, 400, &["max_age: "]),
        (r#"{"image": "x", "warn_before": [5]}"#, 400, &["warn_before: must be a text or a number, not a list"]),
        ("image=x&keep_awake=0+9+*+*+*", 400, &["keep_awake: ", "for how long", "0 9 * * mon-fri for 8h"]),
        (r#"{"image": "x", "keep_awake": ["0 9 * * * for 8h", "0 9 * * * for 9d"]}"#, 400, &["keep_awake: ", "7 days"]),
        (r#"{"image": "x", "keep_awake": ["0 9 * * * for 8h", "default"]}"#, 400, &["keep_awake: \"default\""]),
        (r#"{"image": "x", "keep_awake": [5]}"#, 400, &["keep_awake: must be a text or a list of texts"]),
        (&tables, 400, &["keep_awake: at most 16"]),
        ("image=x&evidence=processor=20", 400, &["evidence: processor is", "5%", "\"20\""]),
        ("image=x&evidence=keys=on", 400, &["evidence: there is no evidence \"keys\"", "traffic"]),
        ("image=x&evidence=on", 400, &["evidence: \"on\" is not name=value"]),
        (r#"{"image": "x", "evidence": {"disk": "1m processor=off"}}"#, 400, &["evidence: disk is"]),
        (r#"{"image": "x", "evidence": {"disk": 1048576}}"#, 400, &["evidence.disk: must be a text"]),
        ("image=x&memory=lots", 400, &["memory", "512m"]),
        ("image=x&memory=1m", 400, &["memory", "6m"]),
        (r#"{"image": "x", "memory": -1}"#, 400, &["memory"]),
        ("image=x&cpus=0", 400, &["cpus"]),
        ("image=x&cpus=NaN", 400, &["cpus"]),
        (r#"{"image": "x", "command": []}"#, 400, &["command"]),
        (r#"{"image": "x", "command": ["ls", 5]}"#, 400, &["command: must be a text"]),
        (r#"{"image": "x", "command": ""}"#, 400, &["command"]),
        (r#"{"image": "x", "env": ["A"]}"#, 400, &["env: \"A\" is not name=value"]),
        (r#"{"image": "x", "env": {"A": 1}}"#, 400, &["env.A: must be a text"]),
        (r#"{"image": "x", "env": {"A=B": "1"}}"#, 400, &["env", "variable's name"]),
        (r#"{"image": "x", "env": {"A": "\u0000"}}"#, 400, &["env", "zero byte"]),
        (r#"{"image": "x", "labels": {"a b": "1"}}"#, 400, &["labels", "label's name"]),
        (r#"{"image": "x", "labels": "a"}"#, 400, &["labels: \"a\" is not name=value"]),
        (&keys, 400, &["authorized_keys: line 1 is not a public key"]),
        ("image=x&authorized_keys=-----BEGIN+OPENSSH+PRIVATE+KEY-----", 400, &["private key"]),
        ("image=nobody/nothing", 422, &["\"nobody/nothing\" is not on the host", "/v1/images"]),
        ("image=Nobody/Nothing", 422, &["\"Nobody/Nothing\" is not on the host"]),
        ("image=spindown/ssh:none", 422, &["not on the host"]),
        ("image=spindown/ssh&cpus=1000", 400, &["cpus: the host has fewer"]),
    ];
    for (body, status, words) in cases {
        let answer = server.post(path, body).await;
        assert_problem(body, &answer, *status, words);
        assert_eq!(answer.json["instance"], path, "{body}");
    }
    assert_eq!(server.get(path).await.json, serde_json::json!([]));
    let filter = format!("label=spindown.managed={}", server.block.instance());
    assert_eq!(run("docker", &["ps", "-aq", "--filter", &filter]), "", "nothing is left behind");
}

#[tokio::test]
async fn an_image_or_a_command_that_cannot_work_is_told() {
    let server = Server::start(&[]);
    let light = light_image();
    let silent = image("silent", "FROM spindown/base\nCMD [\"sleep\", \"3600\"]\n");
    let empty = image("empty", "FROM scratch\nEXPOSE 80\nLABEL x=1\n");
    let stranger = image("stranger", &format!("FROM {light}\nLABEL spindown.ssh.user=nobody-here\n"));
    let user = image("user", &format!("FROM {light}\nUSER nobody-here\n"));
    let key = crate::support::server::SshKey::make().encoded();
    for (body, words) in [
        (format!("image={silent}"), "exposes no port"),
        (format!("image={empty}"), "no command"),
        (format!("image={stranger}&authorized_keys={key}"), "no user \"nobody-here\" to log in as"),
        (format!("image={user}"), "user that it does not have"),
        (format!("image={light}&command=/no/such&command=x"), "the command cannot be run"),
        (format!("image={light}&command=no-such-word"), "the command cannot be run"),
        (format!("image={light}&command=/etc/passwd&command=x"), "the command cannot be run"),
    ] {
        let answer = server.post("/v1/containers", &body).await;
        assert_problem(&body, &answer, 422, &[words]);
    }
    let filter = format!("label=spindown.managed={}", server.block.instance());
    assert_eq!(run("docker", &["ps", "-aq", "--filter", &filter]), "", "nothing is left behind");
    // A name that was refused is free, one that was given is not.
    let named = format!("image={light}&name=bell");
    server.post("/v1/containers", &format!("{named}&command=no-such-word")).await;
    assert_eq!(server.post("/v1/containers", &named).await.status, 201);
    let taken = server.post("/v1/containers", &named).await;
    assert_problem("name", &taken, 409, &["\"bell\" is in use"]);
    assert_eq!(server.get("/v1/containers").await.json.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_asked_of_a_container_must_be_possible() {
    let server = Server::start(&[]);
    let light = light_image();
    let made = server.post("/v1/containers", &format!("image={light}")).await.json;
    let (uri, engine_id) = (text(&made["uri"]), text(&made["container_id"]));
    for status in ["stopping", "missing", "paused", "Running", ""] {
        let refused = server.patch(uri, &format!("status={status}")).await;
        assert_problem(status, &refused, 400, &["status: can be set to running, frozen or stopped"]);
    }
    assert_problem("type", &server.patch(uri, r#"{"status": 1}"#).await, 400, &["status: must be a text"]);
    // Frozen behind our back it can be started, which thaws it.
    run("docker", &["pause", engine_id]);
    let frozen = server.wait_for_status(engine_id, "frozen").await;
    assert_eq!(frozen["app_port"], made["app_port"]);
    assert_eq!(server.patch(uri, "status=running").await.json["status"], "running");
    run("docker", &["pause", engine_id]);
    server.wait_for_status(engine_id, "frozen").await;
    assert_eq!(server.patch(uri, "status=stopped").await.json["status"], "stopping");
    server.wait_for_status(engine_id, "stopped").await;
    // Removed behind our back it can only be deleted.
    run("docker", &["rm", "-f", engine_id]);
    server.wait_for_status(engine_id, "missing").await;
    for body in ["status=running", "status=stopped", "name=other", "labels=a=b", "idle_timeout=never"] {
        let refused = server.patch(uri, body).await;
        assert_problem(body, &refused, 409, &["removed behind", "DELETE it"]);
    }
    assert_eq!(look(&server, engine_id).await["app_port"], "");
    assert_eq!(server.get(&format!("{uri}/activity")).await.json["verdict"], "keep");
    assert_eq!(server.delete(uri).await.status, 204);
    assert_problem("gone", &server.delete(uri).await, 404, &[engine_id]);
}

#[tokio::test]
async fn requests_that_lead_nowhere_are_told_where_to_go() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let uri = text(&made["uri"]);
    for (method, path, allowed) in [
        ("PUT", "/v1/containers", "GET, HEAD, POST"),
        ("DELETE", "/v1/containers", "GET, HEAD, POST"),
        ("PATCH", "/v1/containers", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/containers", "GET, HEAD, POST"),
        ("POST", uri, "DELETE, GET, HEAD, PATCH"),
        ("PUT", uri, "DELETE, GET, HEAD, PATCH"),
        ("DELETE", &format!("{uri}/activity"), "GET, HEAD"),
        ("GET", &format!("{uri}/extend"), "POST"),
        ("PUT", "/v1/images", "GET, HEAD, POST"),
        ("DELETE", "/v1/images", "GET, HEAD, POST"),
        ("GET", "/v1/images/spindown/ssh:latest", "DELETE"),
        ("POST", "/v1/disk", "GET, HEAD"),
        ("DELETE", &format!("{uri}/logs"), "GET, HEAD"),
        ("GET", "/v1/check-in", "POST"),
        ("PUT", "/health", "GET, HEAD"),
    ] {
        let answer = send(&server, method, path, "", "").await;
        assert_problem(&format!("{method} {path}"), &answer, 405, &[method, allowed]);
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
    }
    for path in
        ["/", "/v1", "/v2/containers", "/v1/container", &format!("{uri}/log"), "/v1/health", "/%2e%2e/etc/passwd"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = server.call(method.clone(), path, "").await;
            assert_problem(&format!("{method} {path}"), &answer, 404, &["/v1/containers"]);
        }
    }
    assert_eq!(send(&server, "HEAD", uri, "", "").await.status, 200);
    assert_eq!(look(&server, uri.rsplit('/').next().unwrap()).await["status"], "running");
}

#[tokio::test]
async fn bodies_are_bounded_and_of_a_known_type() {
    let server = Server::start(&[]);
    let path = "/v1/containers";
    let image = r#"{"image": "nobody/nothing"}"#;
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/xml", "application/octet-stream"] {
        let refused = send(&server, "POST", path, kind, image).await;
        assert_problem(kind, &refused, 415, &["application/json", "application/x-www-form-urlencoded"]);
    }
    // A body says what it is by its type, or by how it begins.
    for (kind, body) in [
        ("application/json; charset=utf-8", image),
        ("application/vnd.api+json", image),
        ("", image),
        ("", "image=nobody/nothing"),
        ("application/x-www-form-urlencoded; charset=UTF-8", "image=nobody%2Fnothing"),
    ] {
        assert_problem(kind, &send(&server, "POST", path, kind, body).await, 422, &["nobody/nothing"]);
    }
    for body in [&b"\xff\xfe"[..], b"{\"image\": \"\xff\"}", b"{\"image\": \"\\ud800\"}"] {
        assert_problem("bytes", &send(&server, "POST", path, "application/json", body).await, 400, &["not JSON"]);
    }
    let deep = format!("{{\"image\": {}", "[".repeat(100_000));
    assert_problem("deep", &server.post(path, &deep).await, 400, &["not JSON"]);
    for size in [(256 << 10) + 1, 4 << 20] {
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            let refused = send(&server, "POST", path, kind, vec![b'a'; size]).await;
            assert_problem(&format!("{size} {kind}"), &refused, 413, &["262144 bytes"]);
        }
    }
    let largest = format!("image=nobody/nothing&env=A={}", "a".repeat(32 << 10));
    assert_problem("fits", &server.post(path, &largest).await, 422, &["nobody/nothing"]);
    let twice = server.post("/v1/containers?image=x", "image=x").await;
    assert_problem("twice", &twice, 400, &["image: stands in the query and in the body"]);
    for (query, words) in [
        ("status=asleep", "status: \"asleep\" is none of running"),
        ("limit=0", "limit: must be a number from 1 to 1000"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("page=2", "page: unknown field"),
    ] {
        assert_problem(query, &server.get(&format!("{path}?{query}")).await, 400, &[words]);
    }
    assert_problem("after", &server.get(&format!("{path}?after=nobody")).await, 404, &["nobody"]);
}
