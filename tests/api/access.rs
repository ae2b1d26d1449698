//! Who may call what, over every route there is.

use std::{
    io::Write,
    net::TcpStream,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rocket::figment::Figment;
use spindown::{
    carrier::NoCarrier,
    clock::{Clock, SystemClock},
    config,
    engine::sim::Sim,
    firewall::NoFirewall,
    http::{TrustedProxies, api_server},
    service::Spindown,
    sight::NoSight,
    store::embedded::Embedded,
};

use super::{ask_gateway, assert_problem, light_image, look, text, written};
use crate::support::{
    block::Block,
    server::{Server, run},
};

/// What needs no credentials: containers have none, and the others tell nothing of anybody.
const OPEN: [(&str, &str); 4] =
    [("GET", "/health"), ("POST", "/v1/check-in"), ("GET", "/openapi.json"), ("GET", "/docs")];

/// Every route of the API, as the server itself has them: method and path, with `name` for what is variable.
fn routes(name: &str) -> Vec<(String, String)> {
    let loaded = config::from(Figment::new()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = Arc::new(Sim::new(Arc::clone(&clock)));
    let store = Arc::new(Embedded::open(folder.path()).unwrap());
    let spindown = Spindown::new(
        loaded.settings().unwrap(),
        engine,
        store,
        Arc::new(NoFirewall),
        Arc::new(NoCarrier),
        Arc::new(NoSight),
        clock,
    );
    let server = api_server(loaded.figment, spindown, TrustedProxies::default());
    let filled = |path: &str| {
        let parts = path.split('/').map(|part| if part.starts_with('<') { name } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let routes = server.routes().map(|r| (r.method.as_str().to_owned(), filled(r.uri.path())));
    // Rocket answers HEAD wherever there is a GET.
    let routes = routes.flat_map(|(method, path)| {
        let head = (method == "GET").then(|| ("HEAD".to_owned(), path.clone()));
        head.into_iter().chain([(method, path)])
    });
    routes.collect()
}

fn is_open(method: &str, path: &str) -> bool {
    OPEN.contains(&(if method == "HEAD" { "GET" } else { method }, path)) || path.starts_with("/docs/")
}

#[tokio::test]
async fn every_route_wants_credentials_but_those_that_tell_nothing() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let id = text(&made["id"]);
    let routes = routes(id);
    for known in [("GET", "/v1/containers".to_owned()), ("DELETE", format!("/v1/containers/{id}"))] {
        assert!(routes.iter().any(|(m, p)| m == known.0 && *p == known.1), "{routes:?}");
    }
    for open in OPEN {
        assert!(routes.iter().any(|(m, p)| (m.as_str(), p.as_str()) == open), "{open:?} is in {routes:?}");
    }
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = [
        "".to_owned(),
        basic("admin:wrong"),
        basic("admin:"),
        basic("admin"),
        basic("root:spindocker"),
        basic(":spindocker"),
        basic("admin:spindocker "),
        basic("Admin:spindocker"),
        format!("Bearer {}", STANDARD.encode("admin:spindocker")),
        "Basic".to_owned(),
        "Basic !!!!".to_owned(),
        format!("Basic{}", STANDARD.encode("admin:spindocker")),
        "admin:spindocker".to_owned(),
        format!("Basic {}", "YTpi".repeat(1_000)),
        format!("Basic {}", STANDARD.encode([b'a', b'd', 0xff, b':', 0xfe])),
    ];
    for (method, path) in &routes {
        for (number, header) in wrong.iter().enumerate() {
            let what = format!("{method} {path} with wrong credentials {number}");
            // A body that would be refused or obeyed, so that whatever comes first is seen.
            let body = if method == "GET" || method == "HEAD" { "" } else { "status=stopped" };
            let request = server.request(method.parse().unwrap(), path, body);
            let request = if header.is_empty() { request } else { request.header("Authorization", header) };
            let answer = server.send(request).await;
            if is_open(method, path) {
                assert!(![401, 403].contains(&answer.status), "{what}: {}", answer.status);
                continue;
            }
            assert_eq!(answer.status, 401, "{what}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="), "{what}");
            if method != "HEAD" {
                assert_problem(&what, &answer, 401, &[]);
            }
        }
    }
    // None of it has done anything, and the right ones get everywhere.
    let now = look(&server, id).await;
    assert_eq!((&now["status"], &now["name"]), (&"running".into(), &made["name"]));
    for (method, path) in
        routes.iter().filter(|(m, _)| m != "DELETE").chain(routes.iter().filter(|(m, _)| m == "DELETE"))
    {
        let body = if method == "PATCH" { "idle_timeout=never" } else { "" };
        let answer = server.call(method.parse().unwrap(), path, body).await;
        assert!(![401, 403, 405, 500].contains(&answer.status), "{method} {path}: {}", answer.status);
    }
    let log = server.log();
    for secret in ["spindocker", "wrong", &STANDARD.encode("admin:spindocker"), &STANDARD.encode("admin:wrong")] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(log.contains(r#""status":401"#), "what was refused is in the log");
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let id = text(&made["id"]);
    let mut seen = 0;
    for (method, path) in routes(id).iter().filter(|(method, path)| !is_open(method, path)) {
        for (site, elsewhere) in [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)] {
            let reads = method == "GET" || method == "HEAD";
            // What would be let through must change nothing either.
            if !reads && !elsewhere {
                continue;
            }
            let request = server.request(method.parse().unwrap(), path, if reads { "" } else { "status=stopped" });
            let request = request.header("Sec-Fetch-Site", site).basic_auth("admin", Some("spindocker"));
            let answer = server.send(request).await;
            assert_eq!(answer.status == 403, !reads && elsewhere, "{method} {path} {site}: {}", answer.status);
            if answer.status == 403 {
                assert_problem(&format!("{method} {path}"), &answer, 403, &["another site"]);
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "every changing method was tried");
    assert_eq!(look(&server, id).await["status"], "running");
    let own = server.request(reqwest::Method::DELETE, text(&made["uri"]), "").header("Sec-Fetch-Site", "same-origin");
    assert_eq!(server.send(own.basic_auth("admin", Some("spindocker"))).await.status, 204);
}

/// Runs `spindown hash-password` on this password.
fn hash_password(password: &str, arguments: &[&str]) -> Output {
    let mut hash = Command::new(env!("CARGO_BIN_EXE_spindown"));
    let hash = hash.arg("hash-password").args(arguments).stdin(Stdio::piped());
    let mut hash = hash.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    hash.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    hash.wait_with_output().unwrap()
}

#[test]
fn a_password_is_compared_with_the_hash_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("right"), hash_password("a long password", &[]).stdout).unwrap();
    std::fs::write(file("none"), "a long password").unwrap();
    for (given, hash, code, words) in [
        ("a long password", "right", 0, ""),
        ("a long passwore", "right", 1, "not the password"),
        ("short", "right", 1, "not the password"),
        ("a long password", "none", 1, "not an argon2 hash"),
        ("a long password", "missing", 1, "cannot be read"),
    ] {
        let output = hash_password(given, &["--check", &file(hash)]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{given} {hash}: {told}");
        assert!(told.contains(words) && !told.contains(given) && output.stdout.is_empty(), "{given} {hash}: {told}");
    }
}

#[tokio::test]
async fn a_password_of_ones_own_replaces_the_documented_one() {
    let password = "corréct horse:battery";
    let hash = String::from_utf8(hash_password(password, &[]).stdout).unwrap();
    let server = Server::start(&[
        ("SPINDOWN_AUTH_PASSWORD_HASH", hash.trim()),
        ("SPINDOWN_AUTH_USER", "teacher"),
        ("ROCKET_ADDRESS", "0.0.0.0"),
    ]);
    for (user, given, status) in [
        ("teacher", password, 200),
        ("admin", "spindocker", 401),
        ("teacher", "spindocker", 401),
        ("admin", password, 401),
        ("teacher", hash.trim(), 401),
    ] {
        let request = server.request(reqwest::Method::GET, "/v1/containers", "");
        assert_eq!(server.send(request.basic_auth(user, Some(given))).await.status, status, "{user} {given}");
    }
    assert!(!server.log().contains("horse") && !server.log().contains("argon2"));
}

#[tokio::test]
async fn the_documented_password_is_not_for_everybody() {
    for settings in [
        &[("ROCKET_ADDRESS", "0.0.0.0")][..],
        &[("ROCKET_ADDRESS", "::")],
        &[("SPINDOWN_AUTH_TRUSTED_PROXIES", "[\"127.0.0.1/32\"]")],
    ] {
        let Err(ended) = Server::try_start(Arc::new(Block::take()), settings) else { panic!("{settings:?} starts") };
        assert_eq!(ended.status.code(), Some(1), "{settings:?}: {}", ended.log);
        for word in ["spindown hash-password", "SPINDOWN_AUTH_PASSWORD_HASH", "password_hash"] {
            assert!(ended.log.contains(word), "{settings:?}: {word} in {}", ended.log);
        }
    }
}

#[tokio::test]
async fn the_gateway_takes_reports_and_nothing_else() {
    let server = Server::start(&[]);
    let made = server.create("").await;
    let id = text(&made["id"]);
    let basic = format!("Authorization: Basic {}", STANDARD.encode("admin:spindocker"));
    let asked = routes(id).into_iter().filter(|(_, path)| path != "/v1/check-in");
    let (whats, requests): (Vec<_>, Vec<_>) = asked
        .map(|(method, path)| {
            let request = written(&method, &path, "application/x-www-form-urlencoded", "");
            (format!("{method} {path}"), request.replacen("\r\n", &format!("\r\n{basic}\r\n"), 1))
        })
        .unzip();
    let answers = ask_gateway(&server, text(&made["container_id"]), &requests);
    assert_eq!(answers.len(), whats.len());
    for (what, status) in whats.iter().zip(answers) {
        assert_eq!(status, 404, "{what}");
    }
    assert_eq!(look(&server, id).await["status"], "running");
    // The API itself is out of a container's reach.
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let gateway = server.block.network().gateway();
    assert!(TcpStream::connect(format!("{gateway}:{port}")).is_err(), "it listens on loopback only");
    assert!(TcpStream::connect(format!("{gateway}:80")).is_ok());
    let filter = format!("label=spindown.managed={}", server.block.instance());
    assert_eq!(run("docker", &["ps", "-q", "--filter", &filter]).lines().count(), 1);
}
