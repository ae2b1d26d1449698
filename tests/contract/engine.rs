//! What every engine does: one suite, run on a real one and on the simulated one. What only one of them has is beside
//! it: `docker` for the real one's safety and failures, `sim` for what tests do to the simulated one.

mod docker;
mod image;
mod rig;
mod sim;

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use spindown::{
    engine::{Engine, EngineEvent, Happening},
    model::{Blueprint, EngineId, EngineState, Error, File, Kind, MountPoint, Name, Observation, Protocol, VolumeName},
};

use self::{
    image::{
        a_pull_that_was_dropped_can_be_made_again, a_registry_lets_in_who_proves_himself,
        an_image_in_use_is_not_removed, an_image_is_pulled_and_removed, two_pulls_of_one_image_get_it_both,
        what_a_container_goes_on_to_write_is_followed_to_its_end, what_a_container_takes_of_the_disk_is_measured,
        what_a_container_writes_is_read,
    },
    rig::{DockerRig, Rig, SimRig},
};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// For containers that do not mind.
const GRACE: Duration = Duration::from_secs(10);

/// Makes one test of each case and adapter.
macro_rules! suite {
    ($($case:ident)*) => {
        mod on_docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::DockerRig::new().await).await;
            })*
        }
        mod on_sim {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::SimRig::new().await).await;
            })*
        }
    };
}

suite! {
    a_life_from_creation_to_removal
    starting_and_stopping_twice_is_fine
    a_name_is_given_once
    a_name_is_made_up_without_one
    a_missing_image_is_told
    an_image_is_known_with_and_without_its_tag
    a_missing_container_is_told
    a_strangers_container_is_neither_seen_nor_touched
    ports_and_address_stay_over_stops
    a_port_in_use_is_a_conflict_that_names_it
    a_port_taken_by_a_stranger_is_a_conflict_that_names_it
    an_address_in_use_is_a_conflict
    a_container_is_renamed
    files_go_in_and_out_in_every_state
    a_directory_is_read_whole
    files_that_are_too_large_or_not_there_are_told
    a_frozen_container_is_seen_and_thawed
    a_frozen_container_is_stopped
    the_list_shows_all_states
    events_tell_a_life_in_order
    an_end_of_its_own_has_no_signal_and_an_exit_code
    a_subscription_has_no_gap
    what_is_done_behind_our_back_is_told
    a_running_container_is_removed
    whether_it_accepts_connections_is_told
    a_command_that_cannot_be_run_is_unsuitable
    a_blueprint_is_read_back_as_it_was_given
    a_volume_is_its_owners_and_stays_while_it_is_held
    the_network_is_made_once
    a_different_network_is_a_conflict
    a_network_made_again_takes_its_containers_back
    the_engine_tells_when_it_started
    an_image_is_pulled_and_removed
    a_registry_lets_in_who_proves_himself
    an_image_in_use_is_not_removed
    two_pulls_of_one_image_get_it_both
    a_pull_that_was_dropped_can_be_made_again
    what_a_container_writes_is_read
    what_a_container_goes_on_to_write_is_followed_to_its_end
    what_a_container_takes_of_the_disk_is_measured
}

/// Waits until the events of `id` have brought `what`, and answers all of its events until then.
async fn await_event(events: &mut BoxStream<'static, EngineEvent>, id: &EngineId, what: Happening) -> Vec<Happening> {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(event) = events.next().await {
            if event.engine_id == *id {
                seen.push(event.what);
                if event.what == what {
                    return true;
                }
            }
        }
        false
    });
    assert_eq!(found.await, Ok(true), "no {what:?} after {seen:?}");
    seen
}

/// Waits until an inspection shows what is wanted.
async fn await_seen(engine: &dyn Engine, id: &EngineId, wanted: impl Fn(&Observation) -> bool) -> Observation {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let seen = engine.inspect(id).await.unwrap();
            if wanted(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap()
}

async fn made(rig: &dyn Rig, number: usize) -> EngineId {
    rig.engine().create(&rig.blueprint(number)).await.unwrap()
}

async fn started(rig: &dyn Rig, number: usize) -> EngineId {
    let id = made(rig, number).await;
    rig.engine().start(&id).await.unwrap();
    id
}

fn named(rig: &dyn Rig, number: usize, name: &str) -> Blueprint {
    Blueprint { name: Some(rig.name(name)), ..rig.blueprint(number) }
}

#[track_caller]
fn fails<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: Kind, part: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(part), "{error:?} does not say {part:?}");
    // What a caller reads holds nothing of the engine's inside.
    for inner in ["overlay", "runc", "OCI", "shim", "proxy", "/var/", "endpoint", "hyper"] {
        assert!(!error.message().contains(inner), "{error:?}");
    }
}

async fn a_life_from_creation_to_removal(rig: &dyn Rig) {
    let engine = rig.engine();
    let blueprint = rig.blueprint(0);
    let id = engine.create(&blueprint).await.unwrap();
    let seen = engine.inspect(&id).await.unwrap();
    assert_eq!((seen.state, seen.exit_code), (EngineState::Created, None));
    assert_eq!((seen.started_at, seen.finished_at), (None, None));
    assert_eq!((&seen.id, &seen.engine_id, &seen.image), (&blueprint.id, &id, &blueprint.image));
    for (label, value) in &blueprint.labels {
        assert_eq!(seen.labels.get(label), Some(value));
    }

    engine.start(&id).await.unwrap();
    let first = engine.inspect(&id).await.unwrap();
    assert_eq!((first.state, first.exit_code), (EngineState::Running, None));
    assert!(first.started_at.unwrap() >= first.created_at);

    engine.stop(&id, GRACE).await.unwrap();
    let seen = engine.inspect(&id).await.unwrap();
    assert_eq!(seen.state, EngineState::Exited);
    assert!(seen.exit_code.is_some());
    assert!(seen.finished_at.unwrap() >= first.started_at.unwrap());

    engine.start(&id).await.unwrap();
    let second = engine.inspect(&id).await.unwrap();
    assert_eq!((second.state, second.exit_code), (EngineState::Running, None));
    assert!(second.started_at > first.started_at);
    assert_eq!(second.created_at, first.created_at);

    engine.stop(&id, GRACE).await.unwrap();
    engine.remove(&id).await.unwrap();
    fails(engine.inspect(&id).await, Kind::NotFound, "container");
    assert!(engine.list().await.unwrap().is_empty());
}

async fn starting_and_stopping_twice_is_fine(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    engine.stop(&id, GRACE).await.unwrap();
    engine.start(&id).await.unwrap();
    let first = engine.inspect(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap(), first);
    engine.stop(&id, GRACE).await.unwrap();
    let first = engine.inspect(&id).await.unwrap();
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap(), first);
}

async fn a_blueprint_is_read_back_as_it_was_given(rig: &dyn Rig) {
    let engine = rig.engine();
    let volume = VolumeName::parse(rig.name("kept").as_str()).unwrap();
    engine.ensure_volume(&volume, "admin").await.unwrap();
    let full = Blueprint {
        command: Some(["sleep", "60"].map(str::to_owned).to_vec()),
        env: [("COLOUR".to_owned(), "blue=green".to_owned()), ("EMPTY".to_owned(), String::new())].into(),
        hostname: Some("bell".to_owned()),
        volumes: [(MountPoint::parse("/home/student").unwrap(), volume.clone())].into(),
        ..named(rig, 0, "whole")
    };
    let plain = Blueprint { hostname: Some("whistle".to_owned()), ..named(rig, 1, "plain") };
    for blueprint in [full, plain] {
        let id = engine.create(&blueprint).await.unwrap();
        assert_eq!(engine.blueprint(&id).await.unwrap(), blueprint);
        assert_eq!(engine.inspect(&id).await.unwrap().volumes, blueprint.volumes);
        engine.remove(&id).await.unwrap();
        fails(engine.blueprint(&id).await, Kind::NotFound, "container");
    }
    assert!(engine.remove_volume(&volume).await.unwrap());
}

async fn a_volume_is_its_owners_and_stays_while_it_is_held(rig: &dyn Rig) {
    let engine = rig.engine();
    let (volume, strange) = ("kept", "strange");
    let [volume, strange] = [volume, strange].map(|name| VolumeName::parse(rig.name(name).as_str()).unwrap());
    for _ in 0..2 {
        engine.ensure_volume(&volume, "ada").await.unwrap();
    }
    fails(engine.ensure_volume(&volume, "bob").await, Kind::Conflict, volume.as_str());
    rig.foreign_volume(&strange);
    fails(engine.ensure_volume(&strange, "ada").await, Kind::Conflict, strange.as_str());
    assert!(!engine.remove_volume(&strange).await.unwrap());
    let volumes = [(MountPoint::parse("/srv").unwrap(), volume.clone())];
    let [one, other] = [0, 1].map(|number| Blueprint { volumes: volumes.clone().into(), ..rig.blueprint(number) });
    let (one, other) = (engine.create(&one).await.unwrap(), engine.create(&other).await.unwrap());
    for id in [&one, &other] {
        assert!(!engine.remove_volume(&volume).await.unwrap());
        engine.remove(id).await.unwrap();
    }
    for _ in 0..2 {
        assert!(engine.remove_volume(&volume).await.unwrap());
    }
}

async fn a_name_is_given_once(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = engine.create(&named(rig, 0, "bell")).await.unwrap();
    let name = rig.name("bell");
    assert_eq!(engine.inspect(&id).await.unwrap().name, name);
    fails(engine.create(&named(rig, 1, "bell")).await, Kind::Conflict, name.as_str());
    let other = made(rig, 1).await;
    fails(engine.rename(&other, &name).await, Kind::Conflict, name.as_str());
    engine.remove(&id).await.unwrap();
    engine.rename(&other, &name).await.unwrap();
}

async fn a_name_is_made_up_without_one(rig: &dyn Rig) {
    let (engine, one, other) = (rig.engine(), made(rig, 0).await, made(rig, 1).await);
    let (one, other) = (engine.inspect(&one).await.unwrap().name, engine.inspect(&other).await.unwrap().name);
    assert_ne!(one, other);
    assert!(Name::parse(one.as_str()).is_ok(), "{one}");
}

async fn a_missing_image_is_told(rig: &dyn Rig) {
    let engine = rig.engine();
    for image in ["no/such", "no/such:1", "No/Such", "../containers", "a b", ""] {
        fails(engine.image(image).await, Kind::NotFound, image);
        let blueprint = Blueprint { image: image.to_owned(), ..rig.blueprint(0) };
        fails(engine.create(&blueprint).await, Kind::Unsuitable, image);
    }
    assert!(engine.list().await.unwrap().is_empty());
}

async fn an_image_is_known_with_and_without_its_tag(rig: &dyn Rig) {
    let engine = rig.engine();
    let images = engine.images().await.unwrap();
    assert!(images.is_sorted() && images.contains(&"spindown/ssh:latest".to_owned()), "{images:?}");
    let image = engine.image("spindown/ssh").await.unwrap();
    assert_eq!(image.exposed, [(22, Protocol::Tcp)]);
    assert_eq!(image.ssh_user(), "student");
    assert_eq!(engine.image("spindown/ssh:latest").await.unwrap(), image);
}

/// Tries everything that can be done to a container, and expects it not to be there.
async fn is_not_there(engine: &dyn Engine, id: &EngineId) {
    let name = Name::parse("another").unwrap();
    fails(engine.inspect(id).await, Kind::NotFound, "container");
    fails(engine.start(id).await, Kind::NotFound, "container");
    fails(engine.thaw(id).await, Kind::NotFound, "container");
    fails(engine.stop(id, GRACE).await, Kind::NotFound, "container");
    fails(engine.rename(id, &name).await, Kind::NotFound, "container");
    fails(engine.put_files(id, "/", &[]).await, Kind::NotFound, "container");
    fails(engine.get_files(id, "/etc/hostname", 100).await, Kind::NotFound, "container");
    fails(engine.remove(id).await, Kind::NotFound, "container");
}

async fn a_missing_container_is_told(rig: &dyn Rig) {
    let engine = rig.engine();
    is_not_there(engine, &EngineId::parse(&"0".repeat(64)).unwrap()).await;
    // Also when it was known before.
    for behind in [true, false] {
        let id = started(rig, 0).await;
        if behind {
            rig.remove_behind(&id)
        } else {
            engine.remove(&id).await.unwrap()
        }
        is_not_there(engine, &id).await;
    }
}

async fn a_strangers_container_is_neither_seen_nor_touched(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = rig.foreign();
    is_not_there(engine, &id).await;
    assert!(engine.list().await.unwrap().is_empty());
    is_not_there(engine, &id).await;
    assert!(rig.is_there(&id));
}

async fn ports_and_address_stay_over_stops(rig: &dyn Rig) {
    let engine = rig.engine();
    let blueprint = rig.blueprint(0);
    let id = engine.create(&blueprint).await.unwrap();
    for _ in 0..2 {
        for up in [false, true] {
            if up {
                engine.start(&id).await.unwrap();
            }
            let seen = engine.inspect(&id).await.unwrap();
            assert_eq!(seen.state.is_up(), up);
            assert_eq!((&seen.ports, seen.address), (&blueprint.ports, Some(blueprint.address)));
        }
        engine.stop(&id, GRACE).await.unwrap();
    }
}

async fn a_port_in_use_is_a_conflict_that_names_it(rig: &dyn Rig) {
    let engine = rig.engine();
    let first = started(rig, 0).await;
    let ports = rig.blueprint(0).ports;
    let second = engine.create(&Blueprint { ports: ports.clone(), ..rig.blueprint(1) }).await.unwrap();
    fails(engine.start(&second).await, Kind::Conflict, &format!("port {}", ports[0].host));
    assert!(!engine.inspect(&second).await.unwrap().state.is_up());
    // A port of what is down is free.
    engine.stop(&first, GRACE).await.unwrap();
    engine.start(&second).await.unwrap();
    fails(engine.start(&first).await, Kind::Conflict, &format!("port {}", ports[0].host));
}

async fn a_port_taken_by_a_stranger_is_a_conflict_that_names_it(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    let port = rig.blueprint(0).ports[0].host;
    let stranger = rig.occupy(port);
    fails(engine.start(&id).await, Kind::Conflict, &format!("port {port}"));
    drop(stranger);
    engine.start(&id).await.unwrap();
}

async fn an_address_in_use_is_a_conflict(rig: &dyn Rig) {
    let engine = rig.engine();
    let first = started(rig, 0).await;
    let blueprint = Blueprint { address: rig.blueprint(0).address, ..rig.blueprint(1) };
    let second = engine.create(&blueprint).await.unwrap();
    fails(engine.start(&second).await, Kind::Conflict, "address");
    engine.remove(&first).await.unwrap();
    engine.start(&second).await.unwrap();
    // One that is not on the network at all.
    let blueprint = Blueprint { address: [10, 98, 0, 9].into(), ..rig.blueprint(2) };
    let third = engine.create(&blueprint).await.unwrap();
    fails(engine.start(&third).await, Kind::Conflict, "address");
}

async fn a_container_is_renamed(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = engine.create(&named(rig, 0, "bell")).await.unwrap();
    for name in ["whistle", "whistle", "horn"] {
        engine.rename(&id, &rig.name(name)).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap().name, rig.name(name));
        assert_eq!(engine.list().await.unwrap()[0].name, rig.name(name));
    }
    engine.create(&named(rig, 1, "bell")).await.unwrap();
}

fn file(path: &str, mode: u32, owner: u64, content: &[u8]) -> File {
    File { path: path.to_owned(), mode, uid: owner, gid: owner, content: Some(content.to_vec()) }
}

fn directory(path: &str, mode: u32, owner: u64) -> File {
    File { path: path.to_owned(), mode, uid: owner, gid: owner, content: None }
}

async fn files_go_in_and_out_in_every_state(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    for (number, state) in ["created", "running", "frozen", "stopped"].into_iter().enumerate() {
        match state {
            "running" => engine.start(&id).await.unwrap(),
            "frozen" => rig.freeze_behind(&id),
            "stopped" => engine.stop(&id, GRACE).await.unwrap(),
            _ => {}
        }
        let text = vec![b'a' + number as u8; 3000 * (number + 1)];
        let files = [directory(".ssh", 0o700, 1000), file(".ssh/authorized_keys", 0o600, 1000, &text)];
        engine.put_files(&id, "/home/student", &files).await.unwrap();
        let got = engine.get_files(&id, "/home/student/.ssh/authorized_keys", 20_000).await.unwrap();
        assert_eq!(got, [file("authorized_keys", 0o600, 1000, &text)], "{state}");
        let got = engine.get_files(&id, "/home/student/.ssh/", 20_000).await.unwrap();
        assert_eq!(got, files, "{state}");
    }
    // What was put in is still there after a stop and a start.
    engine.start(&id).await.unwrap();
    assert_eq!(engine.get_files(&id, "/home/student/.ssh", 20_000).await.unwrap().len(), 2);
}

async fn a_directory_is_read_whole(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    let long = format!("d/e/{}", "x".repeat(180));
    let files = [
        directory("d", 0o755, 0),
        directory("d/e", 0o2750, 7),
        file("d/e/run", 0o4755, 70_000, b""),
        file(&long, 0o644, 0, b"long"),
    ];
    engine.put_files(&id, "/opt", &files).await.unwrap();
    let mut got = engine.get_files(&id, "/opt/d", 1000).await.unwrap();
    got.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(got, files);
}

async fn files_that_are_too_large_or_not_there_are_told(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    let large = file("large", 0o644, 0, &vec![0; 3 << 20]);
    engine.put_files(&id, "/opt", std::slice::from_ref(&large)).await.unwrap();
    for limit in [10, 1 << 20, (3 << 20) - 1] {
        fails(engine.get_files(&id, "/opt/large", limit).await, Kind::Unsuitable, "/opt/large");
    }
    assert_eq!(engine.get_files(&id, "/opt/large", 3 << 20).await.unwrap().len(), 1);
    for path in ["/no/such", "/opt/large/inside", "/opt/larg"] {
        fails(engine.get_files(&id, path, 100).await, Kind::NotFound, path);
    }
    let small = [file("x", 0o644, 0, b"x")];
    fails(engine.put_files(&id, "/no/such", &small).await, Kind::NotFound, "/no/such");
    fails(engine.put_files(&id, "/opt/large", &small).await, Kind::NotFound, "/opt/large");
    for path in ["../x", "/x", "", "a/../../x"] {
        fails(engine.put_files(&id, "/opt", &[file(path, 0o644, 0, b"x")]).await, Kind::Invalid, path);
    }
}

async fn a_frozen_container_is_seen_and_thawed(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), started(rig, 0).await);
    let mut events = engine.events().await.unwrap();
    rig.freeze_behind(&id);
    await_event(&mut events, &id, Happening::Changed).await;
    let seen = engine.inspect(&id).await.unwrap();
    assert_eq!((seen.state, seen.exit_code), (EngineState::Paused, None));
    fails(engine.start(&id).await, Kind::Conflict, "frozen");
    for _ in 0..2 {
        engine.freeze(&id).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap().state, EngineState::Paused);
    }
    for _ in 0..2 {
        engine.thaw(&id).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap().state, EngineState::Running);
    }
    engine.freeze(&id).await.unwrap();
    await_event(&mut events, &id, Happening::Changed).await;
    let pid = engine.inspect(&id).await.unwrap().pid;
    assert!(pid.is_some_and(|pid| pid > 0), "{pid:?}");
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().pid, None);
    fails(engine.thaw(&id).await, Kind::Conflict, "not running");
    fails(engine.freeze(&id).await, Kind::Conflict, "not running");
}

async fn a_frozen_container_is_stopped(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), started(rig, 0).await);
    rig.freeze_behind(&id);
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().state, EngineState::Exited);
    engine.start(&id).await.unwrap();
    rig.freeze_behind(&id);
    engine.remove(&id).await.unwrap();
}

async fn the_list_shows_all_states(rig: &dyn Rig) {
    let engine = rig.engine();
    let [created, running, frozen, exited] =
        [made(rig, 0).await, started(rig, 1).await, started(rig, 2).await, started(rig, 3).await];
    rig.freeze_behind(&frozen);
    engine.stop(&exited, GRACE).await.unwrap();
    let listed = engine.list().await.unwrap();
    assert_eq!(listed.len(), 4);
    for (number, (id, state)) in [
        (created, EngineState::Created),
        (running, EngineState::Running),
        (frozen, EngineState::Paused),
        (exited, EngineState::Exited),
    ]
    .into_iter()
    .enumerate()
    {
        let found = listed.iter().find(|c| c.engine_id == id).unwrap();
        let seen = engine.inspect(&id).await.unwrap();
        assert_eq!((found.state, &found.id, &found.name), (state, &rig.blueprint(number).id, &seen.name));
        assert_eq!(seen.state, state);
    }
}

async fn events_tell_a_life_in_order(rig: &dyn Rig) {
    use Happening::{Changed, Ended, Removed, Signalled};
    let engine = rig.engine();
    let mut events = engine.events().await.unwrap();
    let mut others = engine.events().await.unwrap();
    let id = made(rig, 0).await;
    assert_eq!(await_event(&mut events, &id, Changed).await, [Changed]);
    engine.start(&id).await.unwrap();
    assert_eq!(await_event(&mut events, &id, Changed).await, [Changed]);
    engine.put_files(&id, "/opt", &[file("x", 0o644, 0, b"x")]).await.unwrap();
    engine.get_files(&id, "/opt/x", 100).await.unwrap();
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(await_event(&mut events, &id, Ended).await, [Signalled, Ended]);
    engine.remove(&id).await.unwrap();
    let last = await_event(&mut events, &id, Removed).await;
    assert!(matches!(last[..], [Changed, Removed] | [Removed]), "{last:?}");
    // Everybody who listens gets all of them, with Spindown's id.
    let event = others.next().await.unwrap();
    assert_eq!((event.id, event.engine_id), (rig.blueprint(0).id, id.clone()));
    await_event(&mut others, &id, Removed).await;
}

async fn an_end_of_its_own_has_no_signal_and_an_exit_code(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = engine.create(&rig.mortal(0)).await.unwrap();
    engine.start(&id).await.unwrap();
    let mut events = engine.events().await.unwrap();
    rig.end(&id);
    assert_eq!(await_event(&mut events, &id, Happening::Ended).await, [Happening::Ended]);
    let seen = await_seen(engine, &id, |seen| !seen.state.is_up()).await;
    assert_eq!((seen.state, seen.exit_code), (EngineState::Exited, Some(3)));
}

async fn a_subscription_has_no_gap(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), made(rig, 0).await);
    for round in 0..40 {
        let mut events = engine.events().await.unwrap();
        // The quickest that can happen at an engine.
        engine.rename(&id, &rig.name(&format!("bell{round}"))).await.unwrap();
        await_event(&mut events, &id, Happening::Changed).await;
    }
    let mut events = engine.events().await.unwrap();
    engine.start(&id).await.unwrap();
    await_event(&mut events, &id, Happening::Changed).await;
}

async fn what_is_done_behind_our_back_is_told(rig: &dyn Rig) {
    use Happening::{Changed, Ended, Removed, Signalled};
    let (engine, id) = (rig.engine(), started(rig, 0).await);
    let mut events = engine.events().await.unwrap();
    rig.kill_behind(&id);
    assert_eq!(await_event(&mut events, &id, Ended).await, [Signalled, Ended]);
    let seen = await_seen(engine, &id, |seen| !seen.state.is_up()).await;
    assert_eq!(seen.state, EngineState::Exited);
    let mut events = engine.events().await.unwrap();
    rig.start_behind(&id);
    await_event(&mut events, &id, Changed).await;
    rig.remove_behind(&id);
    await_event(&mut events, &id, Removed).await;
    fails(engine.inspect(&id).await, Kind::NotFound, "container");
}

async fn a_running_container_is_removed(rig: &dyn Rig) {
    let engine = rig.engine();
    let mut events = engine.events().await.unwrap();
    let id = started(rig, 0).await;
    engine.remove(&id).await.unwrap();
    await_event(&mut events, &id, Happening::Removed).await;
    // Its ports and its address are free at once.
    let next = started(rig, 0).await;
    // Two who remove it at once are both content, or one comes too late.
    let (one, other) = futures::join!(engine.remove(&next), engine.remove(&next));
    for outcome in [one, other] {
        assert!(outcome.as_ref().is_ok() || outcome.as_ref().is_err_and(|e| e.kind() == Kind::NotFound), "{outcome:?}");
    }
    assert!(engine.list().await.unwrap().is_empty());
}

async fn a_command_that_cannot_be_run_is_unsuitable(rig: &dyn Rig) {
    let patient = rig.patient();
    let engine = patient.as_deref().unwrap_or(rig.engine());
    for (number, command) in ["nonesuch", "/no/such", "/etc/passwd"].into_iter().enumerate() {
        let command = Some(vec![command.to_owned()]);
        let id = engine.create(&Blueprint { command, ..rig.plain(number) }).await.unwrap();
        fails(engine.start(&id).await, Kind::Unsuitable, "command");
        let seen = engine.inspect(&id).await.unwrap();
        assert_eq!(seen.state, EngineState::Exited);
        assert!(matches!(seen.exit_code, Some(126 | 127)), "{seen:?}");
    }
    let command = Some(vec!["sleep".to_owned(), "infinity".to_owned()]);
    let id = rig.engine().create(&Blueprint { command, ..rig.plain(3) }).await.unwrap();
    rig.engine().start(&id).await.unwrap();
}

async fn the_network_is_made_once(rig: &dyn Rig) {
    let engine = rig.engine();
    rig.remove_network();
    let network = rig.network();
    let (one, two, three) = futures::join!(
        engine.ensure_network(&network),
        engine.ensure_network(&network),
        engine.ensure_network(&network)
    );
    one.and(two).and(three).unwrap();
    engine.ensure_network(&network).await.unwrap();
    started(rig, 0).await;
}

async fn a_different_network_is_a_conflict(rig: &dyn Rig) {
    let engine = rig.engine();
    let network = rig.network();
    let other = |change: fn(&mut spindown::engine::NetworkSpec)| {
        let mut spec = network.clone();
        change(&mut spec);
        spec
    };
    // One of that name that differs.
    let spec = other(|n| n.bridge = format!("{}b", n.bridge));
    fails(engine.ensure_network(&spec).await, Kind::Conflict, "network");
    let spec = other(|n| n.subnet = ipnet::Ipv4Net::new(n.subnet.network(), 25).unwrap());
    fails(engine.ensure_network(&spec).await, Kind::Conflict, "network");
    // One of another name that takes the addresses or the bridge.
    let spec = other(|n| (n.name, n.bridge) = (format!("{}x", n.name), format!("{}x", n.bridge)));
    fails(engine.ensure_network(&spec).await, Kind::Conflict, "\"network.subnet\"");
    let spec = other(|n| (n.name, n.subnet) = (format!("{}x", n.name), "10.98.200.0/24".parse().unwrap()));
    fails(engine.ensure_network(&spec).await, Kind::Conflict, "\"network.bridge\"");
    engine.ensure_network(&network).await.unwrap();
}

async fn a_network_made_again_takes_its_containers_back(rig: &dyn Rig) {
    let (engine, id) = (rig.engine(), started(rig, 0).await);
    engine.stop(&id, GRACE).await.unwrap();
    let before = engine.inspect(&id).await.unwrap();
    rig.remove_network();
    fails(engine.start(&id).await, Kind::Unavailable, "network");
    engine.ensure_network(&rig.network()).await.unwrap();
    for _ in 0..2 {
        engine.start(&id).await.unwrap();
        let seen = engine.inspect(&id).await.unwrap();
        assert_eq!((seen.address, &seen.ports), (before.address, &before.ports));
        assert!(rig.answers_at(&id, before.address.unwrap()));
        engine.stop(&id, GRACE).await.unwrap();
    }
}

async fn the_engine_tells_when_it_started(rig: &dyn Rig) {
    let engine = rig.engine();
    engine.ping().await.unwrap();
    let started = engine.started_at().await.unwrap().unwrap();
    let id = made(rig, 0).await;
    assert!(engine.inspect(&id).await.unwrap().created_at >= started);
    assert_eq!(engine.started_at().await.unwrap(), Some(started));
}

async fn whether_it_accepts_connections_is_told(rig: &dyn Rig) {
    let (engine, address) = (rig.engine(), rig.blueprint(0).address);
    assert_eq!(engine.accepts(address, 22).await.unwrap(), Some(false), "nobody has the address yet");
    let id = started(rig, 0).await;
    let up = async { while engine.accepts(address, 22).await.unwrap() != Some(true) {} };
    tokio::time::timeout(PATIENCE, up).await.unwrap();
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(engine.accepts(address, 22).await.unwrap(), Some(false));
}
