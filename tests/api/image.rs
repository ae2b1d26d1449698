//! Images over HTTP: pulled from a private registry, line by line, and taken away.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_problem, light_image, text};
use crate::support::{
    registry::{PASSWORD, Registry, USER, header},
    server::{Answer, Server, run},
};

async fn pull(server: &Server, image: &str, credentials: Option<&str>) -> Answer {
    let body = json!({"image": image}).to_string();
    let request = server.request(Method::POST, "/v1/images", &body).basic_auth("admin", Some("spindocker"));
    let request = match credentials {
        Some(header) => request.header("X-Registry-Auth", header),
        None => request,
    };
    server.send(request).await
}

/// The objects of an answer, one a line.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
    // A single line is JSON as a whole.
    let Value::String(text) = &answer.json else { return vec![answer.json.clone()] };
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a file below the folder holds the text.
fn is_kept(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| {
        if entry.path().is_dir() {
            return is_kept(&entry.path(), text);
        }
        // Its socket holds nothing.
        entry.path().is_file()
            && fs::read(entry.path()).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn an_image_comes_from_a_private_registry_and_the_credentials_stay_nowhere() {
    let registry = Registry::start();
    let image = registry.push("course/tiny:1");
    // All there is to log.
    let server = Server::start(&[("RUST_LOG", "trace")]);
    let wrong = header(USER, "wrong-word-of-mine", &registry.host());
    for refused in [None, Some(&*wrong)] {
        let answer = pull(&server, &image, refused).await;
        assert_problem("refused", &answer, 422, &["the registry does not let", &image, "X-Registry-Auth"]);
    }
    let told = lines(&pull(&server, &image, Some(&registry.header())).await);
    assert_eq!(told[0], json!({"status": "pulling"}));
    assert_eq!(told.last().unwrap(), &json!({"status": "done", "image": image}));
    // A layer that comes at once tells nothing of its way.
    for moving in told.iter().filter(|line| line["current"].is_number()) {
        assert!(moving["layer"].is_string() && moving["total"].as_u64() >= moving["current"].as_u64(), "{moving}");
    }
    assert!(told.iter().any(|line| line["status"] == "complete"), "{told:?}");
    assert!(server.get("/v1/images").await.json.as_array().unwrap().contains(&json!(image)));
    // A padding more or less, or the other alphabet, is as good.
    let other = registry.header().replace('-', "+").replace('_', "/").trim_end_matches('=').to_owned();
    assert_eq!(lines(&pull(&server, &image, Some(&other)).await).last().unwrap()["status"], "done");

    let log = server.log();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log tells all");
    for secret in [PASSWORD, USER, "wrong-word-of-mine", &registry.header(), &wrong, &other] {
        assert!(!log.contains(secret), "{secret:?} in {}", log.lines().find(|l| l.contains(secret)).unwrap());
        assert!(!is_kept(server.folder(), secret), "{secret:?} was kept");
    }

    assert_eq!(server.delete(&format!("/v1/images/{image}")).await.status, 204);
    assert_problem("gone", &server.delete(&format!("/v1/images/{image}")).await, 404, &[&image]);
}

#[tokio::test]
async fn what_is_known_before_the_first_line_is_told_by_the_status() {
    let registry = Registry::start();
    let server = Server::start(&[]);
    let (host, ours) = (registry.host(), registry.header());
    let elsewhere = header(USER, PASSWORD, "elsewhere.example");
    for (image, credentials, status, words) in [
        (format!("{host}/none:1"), Some(&*ours), 404, "the registry has no image"),
        (format!("{host}/none"), Some(&*ours), 404, "none:latest"),
        ("127.0.0.1:1/none".to_owned(), None, 503, "the registry does not answer"),
        (format!("{host}/none"), Some(&*elsewhere), 400, "X-Registry-Auth: its serveraddress"),
        (format!("{host}/none"), Some("secret!"), 400, "X-Registry-Auth: it is not base64"),
        ("../etc".to_owned(), None, 400, "image: \"../etc\" cannot be an image's name"),
        ("Upper/Case".to_owned(), None, 400, "image: "),
        ("a".repeat(300), None, 400, "image: "),
    ] {
        let answer = pull(&server, &image, credentials).await;
        assert_problem(&image, &answer, status, &[words]);
        assert!(!answer.json.to_string().contains("secret"), "{:#}", answer.json);
    }
    for (body, words) in [("", "image: is needed"), ("image=a&tag=b", "tag: unknown field; known are image")] {
        assert_problem(body, &server.post("/v1/images", body).await, 400, &[words]);
    }
}

#[tokio::test]
async fn an_image_that_is_in_use_stays() {
    let server = Server::start(&[]);
    let image = format!("{}/used:1.0", server.block.instance());
    run("docker", &["tag", &light_image(), &image]);
    let path = format!("/v1/images/{image}");
    // What was made from the image under another name does not need this one.
    server.post("/v1/containers", &format!("image={}", light_image())).await;
    let made = server.post("/v1/containers", &format!("image={image}")).await.json;
    let (uri, name) = (text(&made["uri"]), text(&made["name"]).trim_start_matches('/'));
    let refused = server.delete(&path).await;
    assert_problem("running", &refused, 409, &[&image, name]);
    server.patch(uri, "status=stopped").await;
    server.wait_for_status(text(&made["id"]), "stopped").await;
    assert_problem("stopped", &server.delete(&path).await, 409, &[&image, name]);
    server.delete(uri).await;
    // Somebody else's counts, too.
    let stranger = format!("{}-stranger", server.block.instance());
    run("docker", &["create", "--name", &stranger, &image]);
    let refused = server.delete(&path).await;
    run("docker", &["rm", &stranger]);
    assert_problem("a stranger's", &refused, 409, &[&stranger]);
    assert_eq!(server.delete(&path).await.status, 204);
    assert_problem("gone", &server.delete(&path).await, 404, &[&image, "not on the host"]);
    for (path, words) in [("/v1/images/Not/A/Name", "cannot be"), ("/v1/images/a%20b", "cannot be")] {
        assert_problem(path, &server.delete(path).await, 400, &[words]);
    }
    assert_problem("none", &server.delete("/v1/images/nobody/nothing").await, 404, &["nobody/nothing:latest"]);
    // The image itself, which has another tag, is there.
    assert!(server.get("/v1/images").await.json.to_string().contains("spindown-test/light:latest"));
}
