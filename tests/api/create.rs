//! Creating: what can be asked for, what is seen of it inside, and creates that are repeated or come all at once.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use reqwest::Method;
use rocket::figment::Figment;
use serde_json::{Value, json};
use spindown::{
    carrier::NoCarrier,
    clock::{Clock, SystemClock},
    config,
    engine::sim::Sim,
    firewall::NoFirewall,
    model::{Image, Protocol},
    service::{
        Spindown,
        container::{IdempotencyKey, NewContainer},
    },
    sight::NoSight,
    store::embedded::Embedded,
};

use super::{assert_problem, ids, light_image, text, until_known};
use crate::support::{
    block::IMAGE,
    server::{Answer, Server, SshKey, run},
    world,
};

/// Creates with the key.
async fn create_as(server: &Server, key: &str, body: &str) -> Answer {
    let request = server.request(Method::POST, "/v1/containers", body).header("Idempotency-Key", key);
    server.send(request.basic_auth("admin", Some("spindocker"))).await
}

/// What the engine says of a container.
fn inspect(container: &Value, what: &str) -> String {
    run("docker", &["inspect", "-f", what, text(&container["container_id"])])
}

#[tokio::test]
async fn every_field_takes_effect() {
    let server = Server::start(&[]);
    let (key, other) = (SshKey::make(), SshKey::make());
    let body = json!({
        "image": IMAGE,
        "name": "hungry_bell",
        "command": ["sh", "-c", "echo \"$GREETING\" >said; exec sleep 3600"],
        "env": {"GREETING": "good morning, x=1", "EMPTY": ""},
        "labels": {"course": "db-101", "team/x": "täm 1"},
        "authorized_keys": [key.public],
        "idle_timeout": "90m",
        "memory": "96m",
        "cpus": 0.5,
    });
    let answer = server.post("/v1/containers", &body.to_string()).await;
    assert_eq!(answer.status, 201, "{:#}", answer.json);
    let made = answer.json;
    assert_eq!(
        (&made["name"], &made["owner"], &made["host"]),
        (&"/hungry_bell".into(), &"admin".into(), &"local".into())
    );
    assert_eq!((&made["labels"], &made["idle_timeout"]), (&body["labels"], &5_400.into()));
    assert_eq!((&made["stopped_by"], &made["exit_code"]), (&Value::Null, &Value::Null));
    for date in ["created_at", "last_active_at", "stops_at"] {
        assert!(text(&made[date]).ends_with('Z'), "{date}: {made:#}");
    }
    assert_eq!(text(&made["id"]).len(), 32);
    assert_eq!(inspect(&made, "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), format!("{0} {0}", 96 << 20));
    assert_eq!(inspect(&made, "{{.HostConfig.NanoCpus}}"), "500000000");
    assert_eq!(inspect(&made, "{{.Config.Hostname}}"), "hungry_bell");
    assert!(!inspect(&made, "{{.Config.Env}}").contains("ssh-ed25519"), "keys are no environment");

    let port = text(&made["ssh_port"]);
    assert_eq!(
        key.login(port, &["cat said; id -un; printenv GREETING EMPTY"]).unwrap(),
        "good morning, x=1\nstudent\ngood morning, x=1"
    );
    let rights = key.login(port, &["stat -c '%a %U' ~/.ssh ~/.ssh/authorized_keys"]).unwrap();
    assert_eq!(rights, "700 student\n600 student");
    assert!(other.login(port, &["true"]).unwrap_err().contains("Permission denied"));
    // Of what it shows of itself, all can be believed: those are its host keys.
    let seen = run("sh", &["-c", &format!("ssh-keyscan -p {port} 127.0.0.1 2>/dev/null | ssh-keygen -lf -")]);
    let seen: BTreeSet<_> = seen.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let told = until_known(&server, "/v1/containers/hungry_bell").await["ssh_host_keys"].clone();
    let told: BTreeSet<_> = told.as_array().unwrap().iter().map(|k| text(k).split_once(' ').unwrap().1).collect();
    assert!(seen.len() >= 2 && seen == told, "{seen:?} {told:?}");
}

#[tokio::test]
async fn forms_say_as_much_as_json() {
    let server = Server::start(&[]);
    let light = light_image();
    let fields = "name=%2Fshell&command=echo+%22$WHO%22+%3E/said%3B+sleep+3600&env=WHO=you&env=B=2&labels=a=1&labels=b=x%3Dy\
                  &memory=67108864&cpus=0.25&idle_timeout=2h";
    let answer = server.post("/v1/containers", &format!("image={light}&{fields}")).await;
    assert_eq!(answer.status, 201, "{:#}", answer.json);
    let made = answer.json;
    assert_eq!((&made["name"], &made["labels"]), (&"/shell".into(), &json!({"a": "1", "b": "x=y"})));
    assert_eq!(made["idle_timeout"], 7_200);
    assert_eq!(inspect(&made, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"), "67108864 250000000");
    let command: Vec<String> = serde_json::from_str(&inspect(&made, "{{json .Config.Cmd}}")).unwrap();
    assert_eq!(command, ["/bin/sh", "-c", "echo \"$WHO\" >/said; sleep 3600"], "one text is for the shell");
    assert_eq!(run("docker", &["exec", text(&made["container_id"]), "cat", "/said"]), "you");
    // Without a word, the server's own limits hold and the engine makes up a name.
    let plain = server.post("/v1/containers", &format!("image={light}")).await.json;
    assert_eq!(inspect(&plain, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"), format!("{} 1000000000", 512 << 20));
    assert_eq!((&plain["labels"], &plain["idle_timeout"]), (&json!({}), &9_000.into()));
    assert!(text(&plain["name"]).len() > 2, "{plain:#}");
}

#[tokio::test]
async fn an_idle_timeout_is_written_as_people_do() {
    let server = Server::start(&[]);
    let light = light_image();
    for (written, seconds) in [
        (json!(5_400), json!(5_400)),
        (json!("5400"), json!(5_400)),
        (json!("1h30m"), json!(5_400)),
        (json!("never"), Value::Null),
        (Value::Null, Value::Null),
    ] {
        let body = json!({"image": light, "idle_timeout": written});
        let made = server.post("/v1/containers", &body.to_string()).await;
        assert_eq!((made.status, &made.json["idle_timeout"]), (201, &seconds), "{written}: {:#}", made.json);
        assert_eq!(made.json["stops_at"].is_null(), seconds.is_null(), "{written}");
    }
}

#[tokio::test]
async fn a_repeated_create_makes_no_second_container() {
    let server = Server::start(&[]);
    let body = format!("image={}", light_image());
    let first = create_as(&server, "once", &body).await;
    let again = create_as(&server, "once", &body).await;
    assert_eq!((first.status, again.status), (201, 201), "{:#}", again.json);
    assert_eq!(again.json["id"], first.json["id"]);
    assert_eq!(again.headers["location"], first.headers["location"]);
    let json = create_as(&server, "once", &json!({"image": light_image()}).to_string()).await;
    assert_eq!(json.json["id"], first.json["id"], "written otherwise, it is the same request");
    let other = create_as(&server, "once", &format!("{body}&memory=64m")).await;
    assert_problem("another request", &other, 409, &["Idempotency-Key"]);
    // What has failed may be tried again; what has been deleted is made anew.
    let failed = create_as(&server, "twice", "image=nobody/nothing").await;
    assert_eq!(failed.status, 422);
    let mended = create_as(&server, "twice", &body).await;
    assert_eq!(mended.status, 201, "{:#}", mended.json);
    assert_ne!(mended.json["id"], first.json["id"]);
    assert_eq!(server.delete(text(&mended.json["uri"])).await.status, 204);
    let anew = create_as(&server, "twice", &body).await;
    assert_eq!(anew.status, 201);
    assert_ne!(anew.json["id"], mended.json["id"]);
    // Nor does a restart forget.
    let server = server.start_again(&[]);
    assert_eq!(create_as(&server, "once", &body).await.json["id"], first.json["id"]);

    for round in 0..3 {
        let key = format!("ten in round {round}");
        let at_once = join_all((0..10).map(|_| create_as(&server, &key, &body))).await;
        let made: BTreeSet<_> = at_once.iter().map(|a| (a.status, text(&a.json["id"]))).collect();
        assert_eq!(made.len(), 1, "round {round}: {made:?}");
        assert_eq!(server.delete(text(&at_once[0].json["uri"])).await.status, 204);
    }
    assert_eq!(server.get("/v1/containers").await.json.as_array().unwrap().len(), 2);
    for bad in ["", &"x".repeat(256), "caf\u{e9}"] {
        assert_problem(bad, &create_as(&server, bad, &body).await, 400, &["Idempotency-Key"]);
    }
}

#[tokio::test]
async fn twelve_at_once_get_ports_of_their_own() {
    let server = Server::start(&[]);
    let body = format!("image={IMAGE}");
    let made = join_all((0..12).map(|_| server.post("/v1/containers", &body))).await;
    let ports: BTreeSet<_> = made.iter().map(|a| text(&a.json["ssh_port"])).collect();
    made.iter().for_each(|a| assert_eq!((a.status, &a.json["status"]), (201, &"running".into()), "{:#}", a.json));
    assert_eq!(ports.len(), 12, "{ports:?}");
    let list = server.get("/v1/containers?audit=true&status=running").await.json;
    let made: BTreeSet<_> = made.iter().map(|a| text(&a.json["id"])).collect();
    assert_eq!(ids(&list).into_iter().collect::<BTreeSet<_>>(), made);
}

/// The engine is simulated, so that it takes no longer to make a container than to find the first one's mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_at_the_same_moment_it_is_one_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = Sim::new(Arc::clone(&clock));
    let exposed = vec![(80, Protocol::Tcp)];
    engine.add_image("site", Image { exposed, ..Image::default() });
    let (engine, store) = (Arc::new(engine), Arc::new(Embedded::open(folder.path()).unwrap()));
    let settings = config::from(Figment::new()).unwrap().settings().unwrap();
    let spindown =
        Spindown::new(settings, engine, store, Arc::new(NoFirewall), Arc::new(NoCarrier), Arc::new(NoSight), clock);
    let _events = spindown.meet_engine().await.unwrap();
    for round in 0..150 {
        let key = IdempotencyKey::parse(&format!("key {round}")).unwrap();
        let create = || {
            let (spindown, key) = (Arc::clone(&spindown), key.clone());
            let wanted = NewContainer { image: "site".to_owned(), ..world::wanted() };
            tokio::spawn(
                async move { spindown.create_container("admin", wanted, Some(&key)).await.unwrap().container.id },
            )
        };
        let made = join_all((0..10).map(|_| create())).await;
        let made: BTreeSet<_> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.len(), 1, "round {round}");
    }
}
