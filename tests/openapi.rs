//! The OpenAPI document and its page. That every answer is as documented is held in `support::document`, wherever a test
//! asks for anything.

mod generated;

use std::collections::BTreeSet;

use rocket::http::Method;
use serde_json::Value;

use crate::support::{
    document::document,
    local::{Ask, Local},
};

/// Every `$ref` of a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn every_route_is_documented_and_nothing_else() {
    let local = Local::new().await;
    // A path that goes on cannot be documented: its slashes are said to belong to the parameter.
    let braces = |path: &str| path.replace("/<first>/<rest..>", "/{tag}").replace('<', "{").replace('>', "}");
    let routes = local.client.rocket().routes();
    let mounted: BTreeSet<_> = routes.map(|r| (braces(r.uri.path()), r.method.as_str().to_lowercase())).collect();
    let of_path = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
        item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())).collect()
    };
    let documented: BTreeSet<_> = document().paths().iter().flat_map(of_path).collect();
    let missing: Vec<_> = mounted.difference(&documented).collect();
    assert!(missing.is_empty(), "mounted, but not in the `Docs` of its file: {missing:?}");
    let gone: Vec<_> = documented.difference(&mounted).collect();
    assert!(gone.is_empty(), "documented, but not mounted: {gone:?}");
    assert!(mounted.len() > 8, "{mounted:?}");
}

#[tokio::test(start_paused = true)]
async fn the_document_is_whole() {
    let local = Local::new().await;
    let answer = local.send(&Ask::open(Method::Get, "/openapi.json")).await;
    assert_eq!((answer.status, &*answer.headers["content-type"]), (200, "application/json"));
    let served = answer.json();
    assert_eq!(served, serde_json::to_value(spindown::http::openapi::document()).unwrap());
    assert!(served["openapi"].as_str().unwrap().starts_with("3."), "{}", served["openapi"]);
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(served["components"]["securitySchemes"]["basic"]["scheme"], "basic");

    let mut found = Vec::new();
    references(&served, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(served.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }

    let mut ids = BTreeSet::new();
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id), "{what}: its operationId is another's: {}", operation["operationId"]);
            assert!(operation["summary"].as_str().is_some_and(|s| s.ends_with('.')), "{what} has no sentence");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{what}");
            let wants_credentials = !operation["security"].as_array().unwrap().is_empty();
            let responses = &operation["responses"];
            let guarded = path.starts_with("/v1/") && path != "/v1/check-in" || path == "/metrics";
            assert_eq!(wants_credentials, guarded, "{what}");
            assert_eq!(wants_credentials, responses.get("401").is_some(), "{what}");
            assert_eq!(responses.get("403").is_some(), wants_credentials && method != "get", "{what}");
            for parameter in operation["parameters"].as_array().unwrap_or(&Vec::new()) {
                assert!(
                    parameter["description"].is_string() || path == "/docs/{file}",
                    "{what}: {} is not described",
                    parameter["name"]
                );
            }
            for (status, response) in responses.as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{what} {status}");
                assert!(response["description"].as_str().is_some_and(|d| !d.is_empty()), "{what} {status}");
                for content in response["content"].as_object().into_iter().flat_map(|c| c.values()) {
                    document().validator(&content["schema"]);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_asks_nobody_but_this_server() {
    let local = Local::new().await;
    let get = async |path: &str| local.send(&Ask::open(Method::Get, path)).await;
    let page = get("/docs").await;
    assert_eq!(page.status, 200);
    let policy = &page.headers["content-security-policy"];
    for part in ["default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    let text = String::from_utf8(page.body).unwrap();
    assert!(!text.contains("//") && !text.contains("onload"), "{text}");
    let mut asked = 0;
    for attribute in ["src=\"", "href=\""] {
        for reference in text.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let answer = get(reference).await;
            assert_eq!(answer.status, 200, "{reference}");
            assert!(answer.body.len() > 100, "{reference}");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            let kind = match reference.rsplit_once('.').unwrap().1 {
                "js" => "text/javascript",
                "css" => "text/css; charset=utf-8",
                "png" => "image/png",
                _ => "application/json",
            };
            assert_eq!(answer.headers["content-type"], kind, "{reference}");
            asked += 1;
        }
    }
    assert_eq!(asked, 5);
    let start = String::from_utf8(get("/docs/start.js").await.body).unwrap();
    assert!(start.contains("url: \"/openapi.json\"") && start.contains("validatorUrl: null"), "{start}");
    for path in ["/docs/index.html", "/docs/swagger-ui.js", "/docs/..%2f..%2fCargo.toml", "/docs/%00"] {
        assert_eq!(get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the statuses of /v1/containers are")]
async fn what_is_not_documented_is_noticed() {
    let headers = [("x-request-id", "1"), ("content-type", "application/json")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let document = document();
    let check = |status, body: &str| document.check("GET", "/v1/containers", status, &headers, body.as_bytes());
    check(200, "[]").unwrap();
    assert!(check(200, r#"[{"id": "x"}]"#).unwrap_err().contains("required"));
    assert!(check(200, "{}").unwrap_err().contains("not of type"));
    assert!(check(400, "[]").unwrap_err().contains("the content type"));
    assert!(document.check("GET", "/v1/nothing", 200, &headers, b"[]").unwrap_err().contains("no such path"));
    assert!(document.check("PUT", "/v1/containers", 404, &headers, b"[]").unwrap_err().contains("GET, HEAD, POST"));
    assert!(document.check("GET", "/v1/containers", 200, &[].into(), b"[]").unwrap_err().contains("x-request-id"));
    check(418, "[]").unwrap();
}
