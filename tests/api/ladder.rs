//! The ladder as callers set it: each field by form and by JSON, what is told of it, and what is refused.

use serde_json::{Value, json};

use super::{assert_problem, light_image, look, text};
use crate::support::server::Server;

/// What holds unless somebody says otherwise.
fn standard() -> Value {
    json!({
        "freeze_after": null,
        "delete_after": null,
        "max_age": null,
        "warn_before": null,
        "keep_awake": [],
        "evidence": {"traffic": "on", "terminal": "on", "processor": "5%", "disk": "1m", "connections": "auto"},
    })
}

/// Checks that of the ladder exactly these differ from the standard.
fn assert_ladder(shown: &Value, differs: &Value, what: &str) {
    let mut wanted = standard();
    for (name, value) in differs.as_object().unwrap() {
        match value.as_object() {
            Some(sources) => sources.iter().for_each(|(source, text)| wanted[name][source] = text.clone()),
            None => wanted[name] = value.clone(),
        }
    }
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{what}: {name} in {shown:#}");
    }
}

const OFFICE: &str = "0 9 * * mon-fri for 8h in Europe/Berlin";

#[tokio::test]
async fn each_field_is_told_as_it_was_given() {
    let server = Server::start(&[]);
    let light = light_image();
    let quoted = OFFICE.replace(' ', "+");
    let form = format!(
        "freeze_after=10m&delete_after=7d&max_age=86400&warn_before=300&keep_awake={quoted};0+22+L+*+*+for+90m\
         &evidence=processor=12.5%25&evidence=disk=off"
    );
    let json = json!({
        "image": light, "freeze_after": 600, "delete_after": "1w", "max_age": "1d", "warn_before": "5m",
        "keep_awake": [OFFICE, "0 22 l * * for 5400"], "evidence": {"processor": "12.5%", "disk": "off"},
    });
    let set = json!({
        "freeze_after": 600, "delete_after": 604_800, "max_age": 86_400, "warn_before": 300,
        "keep_awake": [OFFICE, "0 22 l * * for 1h30m"], "evidence": {"processor": "12.5%", "disk": "off"},
    });
    for body in [format!("image={light}&{form}"), json.to_string()] {
        let made = server.post("/v1/containers", &body).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        assert_ladder(&made.json, &set, &body);
        let id = text(&made.json["id"]);
        assert_ladder(&look(&server, id).await, &set, &body);
        let activity = server.get(&format!("/v1/containers/{id}/activity")).await.json;
        for member in ["freeze_after", "delete_after", "max_age"] {
            assert_eq!(activity[member], set[member], "{member}");
        }
        assert_eq!((&activity["kept_until"], &activity["false_freezes"]), (&Value::Null, &0.into()));
    }
    // Never is a word of its own, and null is that word; an empty list is none, whatever the server says.
    for body in [
        format!("image={light}&freeze_after=never&keep_awake=&evidence="),
        json!({"image": light, "freeze_after": null, "max_age": "default", "keep_awake": [], "evidence": {}})
            .to_string(),
        format!("image={light}&freeze_after=default&keep_awake=default&evidence=default"),
        format!("image={light}"),
    ] {
        let made = server.post("/v1/containers", &body).await;
        assert_eq!(made.status, 201, "{:#}", made.json);
        assert_ladder(&made.json, &json!({}), &body);
    }
}

#[tokio::test]
async fn each_field_is_changed_alone() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}&freeze_after=10m", light_image())).await.json;
    let uri = text(&made["uri"]);
    let mut holds = json!({"freeze_after": 600});
    for (body, member, value) in [
        (r#"{"freeze_after": "20m"}"#.to_owned(), "freeze_after", json!(1_200)),
        ("delete_after=2d".to_owned(), "delete_after", json!(172_800)),
        ("max_age=3600".to_owned(), "max_age", json!(3_600)),
        (r#"{"warn_before": 60}"#.to_owned(), "warn_before", json!(60)),
        (json!({"keep_awake": OFFICE}).to_string(), "keep_awake", json!([OFFICE])),
        ("keep_awake=".to_owned(), "keep_awake", json!([])),
        (
            "evidence=processor=20%25&evidence=traffic=off".to_owned(),
            "evidence",
            json!({"processor": "20%", "traffic": "off"}),
        ),
        // In place of all that was set, not beside it.
        (r#"{"evidence": {"disk": "64k"}}"#.to_owned(), "evidence", json!({"disk": "64k"})),
        (r#"{"evidence": "default"}"#.to_owned(), "evidence", json!({})),
        (r#"{"max_age": null}"#.to_owned(), "max_age", Value::Null),
        ("delete_after=default".to_owned(), "delete_after", Value::Null),
    ] {
        let changed = server.patch(uri, &body).await;
        assert_eq!(changed.status, 200, "{body}: {:#}", changed.json);
        holds[member] = value;
        assert_ladder(&changed.json, &holds, &body);
    }
    for (body, word) in [
        ("freeze_after=0", "freeze_after: "),
        ("warn_before=soon", "warn_before: "),
        (r#"{"keep_awake": "9 to 5"}"#, "keep_awake: "),
        ("evidence=disk=lots", "evidence: disk is"),
    ] {
        assert_problem(body, &server.patch(uri, body).await, 400, &[word]);
    }
    let id = text(&made["id"]).to_owned();
    assert_ladder(&look(&server, &id).await, &holds, "after what was refused");
    // Nor does a restart forget.
    let server = server.start_again(&[]);
    assert_ladder(&look(&server, &id).await, &holds, "after a restart");
}

#[tokio::test]
async fn the_server_says_what_holds_without_a_word() {
    let awake = format!(r#"["{OFFICE}"]"#);
    let variables = [
        ("SPINDOWN_IDLE_FREEZE_AFTER", "10m"),
        ("SPINDOWN_IDLE_MAX_AGE", "1d"),
        ("SPINDOWN_IDLE_KEEP_AWAKE", &*awake),
        ("SPINDOWN_EVIDENCE_DISK", "off"),
    ];
    let server = Server::start(&variables);
    let light = light_image();
    let made = server.post("/v1/containers", &format!("image={light}")).await.json;
    let holds = json!({"freeze_after": 600, "max_age": 86_400, "keep_awake": [OFFICE], "evidence": {"disk": "off"}});
    assert_ladder(&made, &holds, "nothing said");
    let body = json!({"image": light, "freeze_after": null, "keep_awake": [], "evidence": {"disk": "on"}});
    let own = server.post("/v1/containers", &body.to_string()).await.json;
    assert_ladder(&own, &json!({"max_age": 86_400}), "said otherwise");
    let back = server.patch(text(&own["uri"]), "freeze_after=default&keep_awake=default&evidence=default").await;
    assert_ladder(&back.json, &holds, "left to the server again");
}

#[tokio::test]
async fn what_is_extended_is_so_within_bounds() {
    let server = Server::start(&[("SPINDOWN_IDLE_EXTEND_MOST", "2h")]);
    let made = server.post("/v1/containers", &format!("image={}&idle_timeout=30m", light_image())).await.json;
    assert_eq!(made["kept_until"], Value::Null);
    let path = format!("{}/extend", text(&made["uri"]));
    for (body, words) in [
        ("", &["by: is needed"][..]),
        (r#"{"by": null}"#, &["by: is needed"]),
        ("by=0", &["by: ", "at least 1 second"]),
        ("by=never", &["by: ", "\"never\" is not a duration"]),
        ("by=-5", &["by: "]),
        (r#"{"by": 1.5}"#, &["by: "]),
        ("by=7201", &["by: must be at most 2h", "idle.extend_most", "2h1s"]),
        ("by=1h&until=noon", &["until: unknown field; known are by"]),
    ] {
        assert_problem(body, &server.post(&path, body).await, 400, words);
    }
    assert_problem("nobody", &server.post("/v1/containers/nobody/extend", "by=1h").await, 404, &["nobody"]);
    for body in ["by=2h", r#"{"by": "1h"}"#, r#"{"by": 1}"#] {
        let extended = server.post(&path, body).await;
        assert_eq!((extended.status, &extended.json["id"]), (200, &made["id"]), "{body}: {:#}", extended.json);
        assert!(extended.json["kept_until"].is_string() && extended.json["stops_at"] == extended.json["kept_until"]);
    }
    let longer = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let refused = server.post(&format!("{}/extend", text(&longer["uri"])), "by=1h").await;
    assert_problem("it stays for longer anyway", &refused, 400, &["by: it stays as it is for 2h", "anyway"]);
}

#[tokio::test]
async fn what_is_asked_to_be_frozen_is_so_until_it_is_started() {
    let server = Server::start(&[]);
    let made = server.post("/v1/containers", &format!("image={}", light_image())).await.json;
    let uri = text(&made["uri"]);
    let frozen = server.patch(uri, "status=frozen").await;
    assert_eq!((frozen.status, &frozen.json["status"]), (200, &"frozen".into()), "{:#}", frozen.json);
    assert_eq!(server.patch(uri, r#"{"status": "running"}"#).await.json["status"], "running");
}
