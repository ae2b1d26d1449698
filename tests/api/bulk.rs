//! One request for all containers with a label, and for one that is reset.

use super::*;

#[tokio::test]
async fn all_with_a_label_are_stopped_started_and_deleted() {
    let server = Server::start(&[("SPINDOWN_IDLE_STOP_GRACE", "1s")]);
    let image = light_image();
    let create = async |labels: &str| {
        let answer = server.post("/v1/containers", &format!("image={image}&{labels}")).await;
        assert_eq!(answer.status, 201, "{:#}", answer.json);
        text(&answer.json["id"]).to_owned()
    };
    let bulk = async |form: &str| {
        let answer = server.post("/v1/containers/bulk", form).await;
        assert_eq!(answer.status, 200, "{:#}", answer.json);
        answer.json
    };
    let (one, two) = (create("labels=class=a").await, create("labels=class=a&labels=front=1").await);
    let other = create("labels=class=b").await;

    let stopped = bulk("action=stop&label=class=a").await;
    assert_eq!(ids(&stopped), [&*one, &*two]);
    for outcome in stopped.as_array().unwrap() {
        assert!(["stopping", "stopped"].contains(&text(&outcome["status"])), "{stopped:#}");
        assert!(outcome["error"].is_null() && text(&outcome["name"]).starts_with('/'), "{stopped:#}");
    }
    for id in [&one, &two] {
        assert_eq!(server.wait_for_status(id, "stopped").await["stopped_by"], "user");
    }
    assert_eq!(look(&server, &other).await["status"], "running");

    // Each is answered for, also if another one fails.
    let gone = look(&server, &one).await;
    crate::support::server::run("docker", &["rm", "-f", text(&gone["container_id"])]);
    server.wait_for_status(&one, "missing").await;
    let started = bulk("action=start&label=class=a").await;
    assert_eq!(ids(&started), [&*one, &*two]);
    assert_eq!((&started[0]["status"], &started[0]["error"]["status"]), (&Value::Null, &409.into()), "{started:#}");
    assert!(text(&started[0]["error"]["message"]).contains("DELETE"), "{started:#}");
    assert_eq!((&started[1]["status"], &started[1]["error"]), (&"running".into(), &Value::Null), "{started:#}");

    assert_eq!(ids(&bulk("action=stop&label=class=a&label=front").await), [&*two]);
    assert_eq!(bulk("action=delete&label=class=c").await, serde_json::json!([]));
    let deleted = bulk(r#"{"action": "delete", "label": "class=a"}"#).await;
    assert!(deleted.as_array().unwrap().iter().all(|o| o["status"] == "deleted"), "{deleted:#}");
    assert_eq!(ids(&server.get("/v1/containers").await.json), [&*other]);

    for (form, word) in [
        ("action=stop", "label"),
        ("action=stop&label=", "label"),
        ("action=stop&label==a", "label"),
        ("label=class", "action"),
        ("action=reset&label=class", "action"),
        ("action=stop&label=class&odd=1", "odd"),
    ] {
        assert_problem(form, &server.post("/v1/containers/bulk", form).await, 400, &[word]);
    }
    assert_eq!(look(&server, &other).await["status"], "running");
}

#[tokio::test]
async fn a_reset_brings_back_the_image_under_the_same_id_ports_and_keys() {
    let server = Server::start(&[]);
    let key = crate::support::server::SshKey::make();
    let made = server
        .create(&format!("authorized_keys={}&env=COLOUR=blue&labels=class=a&memory=200m&cpus=0.5", key.encoded()))
        .await;
    let (id, port) = (text(&made["id"]), text(&made["ssh_port"]).to_owned());
    server
        .wait_for(&format!("/v1/containers/{id}"), "known", |a| a.json["ssh_host_keys"] != Value::Array(vec![]))
        .await;
    let made = look(&server, id).await;
    key.login_soon(&port, &["touch mine; sudo rm /bin/ls"]);
    let path = format!("/v1/containers/{id}/reset");
    for state in ["running", "stopped", "frozen"] {
        let before = look(&server, id).await;
        match state {
            "stopped" => crate::support::server::run("docker", &["stop", text(&before["container_id"])]),
            "frozen" => crate::support::server::run("docker", &["pause", text(&before["container_id"])]),
            _ => String::new(),
        };
        server.wait_for_status(id, state).await;
        let answer = server.post(&path, "").await;
        assert_eq!(answer.status, 200, "{:#}", answer.json);
        let after = &answer.json;
        for member in ["id", "name", "ports", "ssh_port", "labels", "created_at", "idle_timeout", "ssh_host_keys"] {
            assert_eq!(after[member], made[member], "{member}");
        }
        assert_eq!(after["status"], "running");
        assert_ne!(after["container_id"], before["container_id"]);
        assert_eq!(key.login_soon(&port, &["ls; echo $COLOUR; hostname"]), {
            let name = crate::support::server::run(
                "docker",
                &["inspect", "--format", "{{.Config.Hostname}}", text(&after["container_id"])],
            );
            format!("blue\n{name}")
        });
        let format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Name}}";
        let limits =
            crate::support::server::run("docker", &["inspect", "--format", format, text(&after["container_id"])]);
        assert_eq!(limits, format!("{} 500000000 {}", 200 << 20, text(&made["name"])));
    }
    // Read anew from inside, they are the same.
    let known = |a: &Answer| a.json["ssh_host_keys"] != Value::Array(vec![]);
    let seen = server.wait_for(&format!("/v1/containers/{id}"), "known", known).await;
    assert_eq!(seen.json["ssh_host_keys"], made["ssh_host_keys"]);

    assert_problem("nobody", &server.post("/v1/containers/nobody/reset", "").await, 404, &["nobody"]);
    let now = look(&server, id).await;
    crate::support::server::run("docker", &["rm", "-f", text(&now["container_id"])]);
    server.wait_for_status(id, "missing").await;
    assert_problem("missing", &server.post(&path, "").await, 409, &["DELETE"]);
}
