//! What a container may report, whose word counts, and what becomes of it.

use serde_json::Value;

use super::{QUIET, ask_gateway, assert_problem, look, report, text, written};
use crate::support::server::{Server, run};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[tokio::test]
async fn a_report_is_a_whole_number_however_it_is_sent() {
    let server = Server::start(&[]);
    let container = server.create(QUIET).await;
    let (id, engine_id) = (text(&container["id"]), text(&container["container_id"]));
    let long = format!("active-connections=1&{}", "x".repeat(1 << 10));
    let cases = [
        ("", FORM, "active-connections=1", 204, "1"),
        ("", FORM, "active=2", 204, "2"),
        ("", JSON, r#"{"active-connections": 3}"#, 204, "3"),
        ("", JSON, r#"{"active-connections": "4"}"#, 204, "4"),
        ("", JSON, r#"{"active": 5}"#, 204, "5"),
        ("?active-connections=6", FORM, "", 204, "6"),
        ("?active=7", JSON, "", 204, "7"),
        ("", FORM, "active-connections=8\r\n", 204, "8"),
        ("", FORM, "active-connections=007", 204, "7"),
        ("", FORM, "active-connections=18446744073709551615", 204, "18446744073709551615"),
        ("", FORM, "active-connections=0", 204, "0"),
        ("", FORM, "active-connections=9", 204, "9"),
        // What is refused changes nothing.
        ("", FORM, "", 400, "9"),
        ("", FORM, "active-connections=", 400, "9"),
        ("", FORM, "active-connections=-1", 400, "9"),
        ("", FORM, "active-connections=%2B1", 400, "9"),
        ("", FORM, "active-connections=1.5", 400, "9"),
        ("", FORM, "active-connections=1e3", 400, "9"),
        ("", FORM, "active-connections=many", 400, "9"),
        ("", FORM, "active-connections=18446744073709551616", 400, "9"),
        ("", FORM, "active-connections=1&active-connections=2", 400, "9"),
        ("", FORM, "active-connections=1&active=1", 400, "9"),
        ("?active=1", FORM, "active=1", 400, "9"),
        ("", FORM, "active-connections=1&container=other", 400, "9"),
        ("", FORM, "connections=1", 400, "9"),
        ("", JSON, r#"{"active-connections": -1}"#, 400, "9"),
        ("", JSON, r#"{"active-connections": 1.5}"#, 400, "9"),
        ("", JSON, r#"{"active-connections": null}"#, 400, "9"),
        ("", JSON, r#"{"active-connections": true}"#, 400, "9"),
        ("", JSON, r#"{"active-connections": [1]}"#, 400, "9"),
        ("", JSON, "[1]", 400, "9"),
        ("", JSON, "{", 400, "9"),
        ("", "text/plain", "active-connections=1", 415, "9"),
        ("", FORM, &long, 413, "9"),
    ];
    for (query, kind, body, status, active) in cases {
        let path = format!("/v1/check-in{query}");
        // The last few are more than one container may send in a second.
        let answered = loop {
            match ask_gateway(&server, engine_id, &[written("POST", &path, kind, body)])[0] {
                429 => continue,
                answered => break answered,
            }
        };
        assert_eq!(answered, status, "{query} {kind} {body:.60}");
        assert_eq!(look(&server, id).await["active"], active, "{query} {kind} {body:.60}");
    }
}

#[tokio::test]
async fn only_running_containers_are_believed() {
    let server = Server::start(&[]);
    let container = server.create(QUIET).await;
    let (id, engine_id) = (text(&container["id"]), text(&container["container_id"]));
    // Nobody on the host is a container; the API's own listener takes reports too.
    let refused = server.post("/v1/check-in", "active-connections=1").await;
    assert_problem("from loopback", &refused, 404, &["127.0.0.1"]);
    let forged = server.request(reqwest::Method::POST, "/v1/check-in", "active=1");
    let address =
        run("docker", &["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", engine_id]);
    let forged = server.send(forged.header("X-Forwarded-For", &address).header("X-Real-IP", &address)).await;
    assert_problem("a header is no address", &forged, 404, &[]);
    assert_eq!(look(&server, id).await["active"], "0");

    assert_eq!(report(&server, engine_id, "active=4"), 204);
    assert_eq!(look(&server, id).await["active"], "4");
    server.patch(text(&container["uri"]), "status=stopped").await;
    let stopped = server.wait_for_status(id, "stopped").await;
    assert_eq!(stopped["active"], "0", "what is down has no connections");
    // A stranger takes the stopped container's address: he speaks for nobody.
    let network = server.block.instance();
    let stranger = run("docker", &["run", "-d", "--rm", "--network", &network, "--ip", &address, "spindown/ssh"]);
    let answered = report(&server, &stranger, "active=9");
    run("docker", &["rm", "-f", &stranger]);
    assert_eq!(answered, 404);
    let activity = server.get(&format!("/v1/containers/{id}/activity")).await.json;
    let reported = activity["evidence"].as_array().unwrap().iter().any(|e| e["connections"] == 9);
    assert!(!reported, "{activity:#}");
}

#[tokio::test]
async fn a_burst_slows_nobody_else() {
    let server = Server::start(&[]);
    let [loud, calm] = [server.create(QUIET).await, server.create(QUIET).await];
    let one = written("POST", "/v1/check-in", FORM, "active=1");
    let statuses = ask_gateway(&server, text(&loud["container_id"]), &vec![one; 200]);
    assert_eq!(statuses.len(), 200);
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert!(count(204) >= 20 && count(429) >= 100, "{statuses:?}");
    assert_eq!(count(204) + count(429), 200, "{statuses:?}");
    assert_eq!(report(&server, text(&calm["container_id"]), "active=1"), 204);
    // It is over when the burst is.
    while report(&server, text(&loud["container_id"]), "active=5") == 429 {}
    assert_eq!(look(&server, text(&loud["id"])).await["active"], "5");
}

#[tokio::test]
async fn connections_are_use_and_their_absence_is_not() {
    let server = Server::start(&[("SPINDOWN_IDLE_TIMEOUT", "10m")]);
    let container = server.create(QUIET).await;
    let (id, engine_id) = (text(&container["id"]), text(&container["container_id"]));
    let page = format!("/v1/containers/{id}/activity");
    let signs = |page: &Value| -> Vec<String> {
        page["evidence"].as_array().unwrap().iter().map(|e| text(&e["sign"]).to_owned()).collect()
    };
    let begun = server.get(&page).await.json;
    assert_eq!((&begun["id"], &begun["status"]), (&container["id"], &Value::from("running")));
    assert_eq!((&begun["verdict"], &begun["idle_timeout"]), (&Value::from("keep"), &Value::from(600)));
    assert!(signs(&begun).contains(&"start".to_owned()), "{begun:#}");

    assert_eq!(report(&server, engine_id, "active=0"), 204);
    let idle = server.get(&page).await.json;
    assert_eq!(idle["changes_at"], begun["changes_at"], "a sign of life postpones nothing");
    let life = idle["evidence"].as_array().unwrap().iter().find(|e| e["sign"] == "check-in").unwrap();
    assert_eq!((&life["connections"], &life["activity"]), (&Value::from(0), &Value::from(false)));
    assert_eq!(look(&server, id).await["last_active_at"], container["last_active_at"]);

    assert_eq!(report(&server, engine_id, "active=2"), 204);
    let used = server.get(&page).await.json;
    assert!(text(&used["changes_at"]) > text(&begun["changes_at"]), "{used:#}");
    assert_eq!(signs(&used)[..2].iter().filter(|s| ["check-in", "connections"].contains(&&***s)).count(), 2);
    let reason = text(&used["reason"]);
    assert!(reason.contains("it reported connections") && reason.contains("10m") && reason.ends_with('.'), "{reason}");
    for sign in used["evidence"].as_array().unwrap() {
        assert!(sign["age_seconds"].as_u64().is_some_and(|age| age < 60), "{sign}");
        assert!(sign["at"].is_string() && sign["activity"].is_boolean(), "{sign}");
    }
    let now = look(&server, id).await;
    assert_eq!(now["stops_at"], used["changes_at"]);
    assert!(text(&now["last_active_at"]) > text(&container["last_active_at"]));

    let never = server.patch(text(&container["uri"]), "idle_timeout=never").await.json;
    assert_eq!((&never["stops_at"], &never["idle_timeout"]), (&Value::Null, &Value::Null));
    let page_of_never = server.get(&page).await.json;
    assert_eq!(page_of_never["changes_at"], Value::Null);
    assert!(text(&page_of_never["reason"]).contains("never"), "{page_of_never:#}");
}
