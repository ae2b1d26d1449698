//! How a container is named, how many are listed, and how one is changed for good.

use serde_json::{Value, json};

use super::{assert_problem, ids, light_image, look, text};
use crate::support::server::{Server, SshKey, run};

#[tokio::test]
async fn a_container_has_many_names() {
    let server = Server::start(&[]);
    let light = light_image();
    server.post("/v1/containers", &format!("image={light}")).await;
    let made = server.post("/v1/containers", &format!("image={light}&name=hungry_bell")).await.json;
    let (id, engine_id) = (text(&made["id"]), text(&made["container_id"]));
    for name in
        [id, engine_id, &id[..12], &id[..31], &engine_id[..12], &engine_id[..63], "hungry_bell", "%2Fhungry_bell"]
    {
        assert_eq!(look(&server, name).await["id"], id, "{name}");
        let activity = server.get(&format!("/v1/containers/{name}/activity")).await;
        assert_eq!((activity.status, &activity.json["id"]), (200, &made["id"]), "{name}");
    }
    let long = format!("{engine_id}0");
    for name in
        [&id[..11], &engine_id[..11], "hungry_bel", "Hungry_Bell", "nobody", "a", "-", "%00", "%ff", "a%20b", &long]
    {
        let missing = server.get(&format!("/v1/containers/{name}")).await;
        assert_problem(name, &missing, 404, &["there is no container"]);
    }

    // Two that begin alike, made behind our back: only who gives more digits means one of them.
    let network = server.block.instance();
    let twin = |last: char| {
        let label = format!("spindown.id=feedfacefeed{last}{}", "0".repeat(19));
        let managed = format!("spindown.managed={network}");
        run("docker", &["run", "-d", "--network", &network, "--label", &label, "--label", &managed, &light]);
    };
    twin('1');
    twin('2');
    server.wait_for("/v1/containers", "adopted", |a| a.json.as_array().unwrap().len() == 4).await;
    let both = server.get("/v1/containers/feedfacefeed").await;
    assert_problem("both", &both, 409, &["feedfacefeed", "several"]);
    assert_eq!(look(&server, "feedfacefeed2").await["owner"], "admin");
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let server = Server::start(&[]);
    let light = light_image();
    let mut made = Vec::new();
    for labels in ["", "&labels=team=a&labels=odd=", "&labels=team=b", "&labels=team=a", "&name=the_last"] {
        made.push(server.post("/v1/containers", &format!("image={light}{labels}")).await.json);
    }
    made.push(server.create("labels=team=a").await);
    server.patch(text(&made[3]["uri"]), "status=stopped").await;
    server.wait_for_status(text(&made[3]["id"]), "stopped").await;
    let made: Vec<_> = made.iter().map(|c| text(&c["id"])).collect();
    for (query, wanted) in [
        ("", vec![0, 1, 2, 3, 4, 5]),
        ("status=stopped", vec![3]),
        ("status=running", vec![0, 1, 2, 4, 5]),
        ("status=frozen", vec![]),
        ("image=spindown/ssh", vec![5]),
        ("image=spindown/ssh:latest", vec![5]),
        ("image=spindown", vec![]),
        ("label=team", vec![1, 2, 3, 5]),
        ("label=team=a", vec![1, 3, 5]),
        ("label=team=a&label=odd", vec![1]),
        ("label=team=a&label=team=b", vec![]),
        ("label=team=a&label=team", vec![1, 3, 5]),
        ("label=odd=", vec![1]),
        ("label=team=a&status=running&image=spindown-test/light", vec![1]),
        ("limit=2", vec![0, 1]),
        ("limit=1000", vec![0, 1, 2, 3, 4, 5]),
        ("after=the_last", vec![5]),
        ("after=%2Fthe_last", vec![5]),
        ("label=team&limit=2&after=the_last", vec![5]),
    ] {
        let list = server.get(&format!("/v1/containers?{query}")).await;
        assert_eq!(list.status, 200, "{query}: {:#}", list.json);
        let wanted: Vec<_> = wanted.into_iter().map(|n| made[n]).collect();
        assert_eq!(ids(&list.json), wanted, "{query}");
    }
    for limit in 1..=4 {
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/v1/containers?limit={limit}{after}")).await.json;
            let Some(last) = ids(&page).last().map(|id| (*id).to_owned()) else { break };
            assert!(ids(&page).len() <= limit);
            walked.extend(ids(&page).into_iter().map(str::to_owned));
            after = format!("&after={last}");
        }
        assert_eq!(walked, made, "pages of {limit}");
    }
}

#[tokio::test]
async fn what_is_changed_stays_changed() {
    let server = Server::start(&[]);
    let (old, new) = (SshKey::make(), SshKey::make());
    let made = server.create(&format!("labels=team=a&labels=odd=1&authorized_keys={}", old.encoded())).await;
    let neighbour = server.post("/v1/containers", &format!("image={}&name=neighbour", light_image())).await.json;
    let (id, port) = (text(&made["id"]), text(&made["ssh_port"]));
    assert_eq!(old.login(port, &["echo in"]).unwrap(), "in");

    let body = json!({"name": "renamed", "labels": {"team": "b"}, "idle_timeout": "3h", "authorized_keys": new.public});
    let changed = server.patch(&format!("/v1/containers/{id}"), &body.to_string()).await;
    assert_eq!(changed.status, 200, "{:#}", changed.json);
    let lasting = |container: &Value| {
        assert_eq!(container["name"], "/renamed");
        assert_eq!(container["labels"], json!({"team": "b"}), "in place of all it had");
        assert_eq!(container["idle_timeout"], 10_800);
        assert_eq!(container["id"], id);
    };
    lasting(&changed.json);
    assert!(old.login(port, &["true"]).unwrap_err().contains("Permission denied"));
    assert_eq!(new.login(port, &["echo in"]).unwrap(), "in");
    assert_eq!(run("docker", &["inspect", "-f", "{{.Name}}", text(&made["container_id"])]), "/renamed");
    assert_problem("the old name", &server.get(&format!("/v1/containers{}", text(&made["name"]))).await, 404, &[]);

    // Each alone, and none of it when one is refused.
    for (body, status, words) in [
        (json!({"name": "neighbour"}), 409, "\"neighbour\" is in use"),
        (json!({"name": "neighbour", "labels": {}, "idle_timeout": 5, "status": "stopped"}), 409, "in use"),
        (json!({"labels": {}, "idle_timeout": "soon"}), 400, "idle_timeout"),
        (json!({"labels": {"bad name": "x"}, "idle_timeout": 5}), 400, "labels"),
        (json!({"name": "0123456789ab"}), 400, "could be taken for an id"),
        (json!({"authorized_keys": "nonsense"}), 400, "line 1"),
        (json!({"image": "spindown/ssh"}), 400, "image: unknown field"),
        (json!({"status": "running", "memory": "64m"}), 400, "memory: unknown field"),
        (json!({}), 400, "nothing to change"),
    ] {
        let refused = server.patch(&format!("/v1/containers/{id}"), &body.to_string()).await;
        assert_problem(&body.to_string(), &refused, status, &[words]);
        lasting(&look(&server, id).await);
    }
    let same = server.patch("/v1/containers/renamed", r#"{"name": "renamed"}"#).await;
    assert_eq!(same.status, 200, "the name that it has is fine: {:#}", same.json);
    let server = server.start_again(&[]);
    let after = look(&server, "renamed").await;
    lasting(&after);
    assert_eq!((&after["status"], &after["ssh_port"]), (&"running".into(), &made["ssh_port"]));
    assert_eq!(new.login(port, &["echo in"]).unwrap(), "in");

    // Stopped, it can be changed as well; and named and started in one go.
    let uri = text(&neighbour["uri"]);
    server.patch(uri, "status=stopped").await;
    server.wait_for_status(text(&neighbour["id"]), "stopped").await;
    let both = server.patch(uri, "status=running&name=friend&labels=a=b").await;
    assert_eq!((both.status, &both.json["status"], &both.json["name"]), (200, &"running".into(), &"/friend".into()));
    assert_eq!(both.json["labels"], json!({"a": "b"}));
    // Keys cannot be given where nobody logs in, but taken away by an empty list.
    let none = server.patch("/v1/containers/renamed", r#"{"authorized_keys": []}"#).await;
    assert_eq!(none.status, 200, "{:#}", none.json);
    assert!(new.login(port, &["true"]).unwrap_err().contains("Permission denied"));
}
