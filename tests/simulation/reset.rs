//! Resets that fail or are cut off at every step: the container is the old one or the new one, there is one of it, and it
//! keeps what is its own.

use spindown::{
    engine::{Engine, sim::Call},
    model::{ContainerId, EngineId, Error, File, Kind, Name, Status},
    service::container::{AuthorizedKeys, NewContainer, Report},
};

use super::create::{KEY, nothing_is_left_but};
use crate::support::{
    memory::Access,
    world::{LEFTOVER, World, minutes, wanted},
};

/// Every call of the engine that a reset makes before the new one is the container …
const BEFORE: [Call; 8] = [
    Call::Blueprint,
    Call::Image,
    Call::GetFiles,
    Call::Create,
    Call::PutFiles,
    Call::Stop,
    Call::FreeMemory,
    Call::Start,
];
/// … and those that it makes at any time.
const LATER: [Call; 3] = [Call::Inspect, Call::Remove, Call::Rename];

/// A container in which somebody has worked.
async fn used(world: &World) -> Report {
    let wanted = NewContainer {
        name: Some(Name::parse("sandbox").unwrap()),
        authorized_keys: Some(AuthorizedKeys::parse(KEY).unwrap()),
        labels: [("class".to_owned(), "a".to_owned())].into(),
        env: [("EDITOR".to_owned(), "vi".to_owned())].into(),
        ..wanted()
    };
    let made = world.service().create_container("ada", wanted, None).await.unwrap();
    let file = |path: &str| File { path: path.into(), mode: 0o600, uid: 0, gid: 0, content: Some(path.into()) };
    world.sim.write(&made.container.engine_id, "/root", file("work")).unwrap();
    world.sim.write(&made.container.engine_id, "/etc/ssh", file("ssh_host_ed25519_key")).unwrap();
    world.settle().await;
    world.report(&made.container.id)
}

async fn has(world: &World, id: &EngineId, path: &str) -> bool {
    world.sim.get_files(id, path, 10_000).await.is_ok()
}

async fn reset(world: &World, id: &ContainerId) -> Result<Report, Error> {
    world.service().reset_container(id.as_str()).await
}

/// Asserts that the container is what it was but for what is in it, which is all there or all gone, and that there is
/// nothing beside it. Answers whether it has been reset.
async fn is_one_of_the_two(world: &World, before: &Report, when: &str) -> bool {
    let id = &before.container.id;
    nothing_is_left_but(world, std::slice::from_ref(id), when).await;
    let listed = world.sim.list().await.unwrap();
    assert_eq!(listed.len(), 1, "{when}");
    let (old, report) = (&before.container, world.report(id));
    let new = &report.container;
    assert_eq!((&new.name, &listed[0].name), (&old.name, &old.name), "{when}");
    assert_eq!(new.engine_id, listed[0].engine_id, "{when}");
    assert_eq!((&new.ports, new.address, new.created_at), (&old.ports, old.address, old.created_at), "{when}");
    assert_eq!((&new.owner, &new.labels, new.idle_timeout), (&old.owner, &old.labels, old.idle_timeout), "{when}");
    assert_eq!(new.stopping, None, "{when}");
    let expected = if world.runs(id).await { Status::Running } else { Status::Stopped };
    assert_eq!(report.status, expected, "{when}");
    let is_new = new.engine_id != old.engine_id;
    assert_eq!(has(world, &new.engine_id, "/root/work").await, !is_new, "{when}");
    for kept in ["/root/.ssh/authorized_keys", "/etc/ssh/ssh_host_ed25519_key"] {
        assert!(has(world, &new.engine_id, kept).await, "{when}: {kept}");
    }
    let blueprint = world.sim.blueprint(&new.engine_id).await.unwrap();
    assert_eq!(blueprint.env["EDITOR"], "vi", "{when}");
    is_new
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_everything_but_what_is_the_containers_own() {
    for state in ["running", "frozen", "stopped"] {
        let mut world = World::new().await;
        let before = used(&world).await;
        let id = &before.container.id;
        match state {
            "frozen" => world.sim.freeze_behind(&before.container.engine_id),
            "stopped" => world.kill_behind(id).await,
            _ => {}
        }
        world.settle().await;
        let after = reset(&world, id).await.unwrap();
        assert_eq!(after.status, Status::Running, "{state}");
        assert_ne!(after.container.engine_id, before.container.engine_id, "{state}");
        assert!(is_one_of_the_two(&world, &before, state).await, "{state}");
        // Again, and under another name.
        let name = Name::parse("other").unwrap();
        let change = spindown::service::container::Change { name: Some(name.clone()), ..Default::default() };
        world.service().update_container(id.as_str(), change).await.unwrap();
        reset(&world, id).await.unwrap();
        world.restart().await;
        world.pass(minutes(3)).await;
        assert_eq!(world.report(id).container.name, name);
        assert!(world.runs(id).await);
        // Nothing of it comes back when it is deleted.
        world.remove(id).await.unwrap();
        world.pass(minutes(3)).await;
        nothing_is_left_but(&world, &[], state).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_fails_puts_the_old_one_back() {
    for call in BEFORE {
        for kind in [Kind::Internal, Kind::Unavailable] {
            for running in [true, false] {
                if call == Call::Stop && !running {
                    continue;
                }
                let world = World::new().await;
                let before = used(&world).await;
                if !running {
                    world.kill_behind(&before.container.id).await;
                    world.settle().await;
                }
                let when = format!("{call:?} {kind:?} {running}");
                world.sim.fail_next(call, Error::new(kind, "as arranged"));
                assert_eq!(reset(&world, &before.container.id).await.unwrap_err().kind(), kind, "{when}");
                assert!(!is_one_of_the_two(&world, &before, &when).await, "{when}");
                assert_eq!(world.runs(&before.container.id).await, running, "{when}");
                reset(&world, &before.container.id).await.unwrap();
                assert!(is_one_of_the_two(&world, &before, &when).await, "{when}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_is_cut_off_has_happened_or_has_not() {
    let mut outcomes = [0, 0];
    // Without a call: between the start of the new one and the look at it.
    for call in BEFORE.into_iter().chain(LATER).map(Some).chain([None]) {
        for (crash, wipe, exclusive) in [
            (false, false, false),
            (false, false, true),
            (true, false, false),
            (true, false, true),
            (true, true, false),
            (true, true, true),
        ] {
            let mut world = World::new().await;
            if exclusive {
                world.store.make_exclusive();
            }
            let before = used(&world).await;
            let when = format!("{call:?} crash {crash} wipe {wipe} exclusive {exclusive}");
            let (service, id) = (world.service(), before.container.id.clone());
            world.sim.hold(call.unwrap_or(Call::Start));
            let task = tokio::spawn(async move { service.reset_container(id.as_str()).await });
            world.quiet().await;
            if call.is_none() {
                world.sim.hold(Call::Inspect);
                world.sim.release(Call::Start);
                world.quiet().await;
            }
            assert!(!task.is_finished(), "{when}");
            task.abort();
            if crash {
                world.crash();
            }
            if wipe {
                world.store.wipe();
            }
            world.sim.release(call.unwrap_or(Call::Inspect));
            if crash {
                world.start().await;
            }
            world.pass(if exclusive { minutes(1) } else { 2 * LEFTOVER }).await;
            outcomes[usize::from(is_one_of_the_two(&world, &before, &when).await)] += 1;
            world.order_start(&before.container.id).await.unwrap();
            assert!(world.runs(&before.container.id).await, "{when}");
        }
    }
    assert!(outcomes.iter().all(|count| *count >= 12), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn the_other_server_sees_the_new_one_too() {
    for events in [true, false] {
        let mut world = World::new().await;
        let other = world.another();
        let before = used(&world).await;
        world.settle().await;
        world.sim.lose_events(!events);
        let after = reset(&world, &before.container.id).await.unwrap();
        world.pass(minutes(1)).await;
        let seen = other.spindown.find_container(before.container.id.as_str()).unwrap();
        assert_eq!((seen.container.engine_id, seen.status), (after.container.engine_id, Status::Running));
        assert_eq!(seen.container.name, before.container.name);
        assert!(is_one_of_the_two(&world, &before, "the other server").await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_cannot_be_reset() {
    let world = World::new().await;
    let before = used(&world).await;
    world.sim.remove_behind(&before.container.engine_id);
    world.settle().await;
    let error = reset(&world, &before.container.id).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("DELETE"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_with_all_the_labels_takes_nobodys_place() {
    let mut world = World::new().await;
    let before = used(&world).await;
    let id = &before.container.id;
    world.order_stop(id).await.unwrap();
    world.settle().await;
    // As somebody may who makes an image of a container.
    let mut copy = world.sim.blueprint(&before.container.engine_id).await.unwrap();
    copy.name = None;
    let copy = world.sim.create(&copy).await.unwrap();
    world.sim.start(&copy).await.unwrap();
    world.pass(2 * LEFTOVER).await;
    assert_eq!(world.report(id).container.engine_id, before.container.engine_id);
    assert_eq!(world.status(id), Status::Stopped);
    assert!(has(&world, &before.container.engine_id, "/root/work").await);
    assert!(world.sim.has(&copy));
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_cut_off_is_finished() {
    for (call, access) in
        [(Some(Call::Remove), None), (None, Some(Access::Remove)), (None, Some(Access::Release)), (None, None)]
    {
        for running in [true, false] {
            let mut world = World::new().await;
            world.store.make_exclusive();
            let id = used(&world).await.container.id;
            if !running {
                world.kill_behind(&id).await;
                world.settle().await;
            }
            let when = format!("{call:?} {access:?} {running}");
            call.iter().for_each(|call| world.sim.hold(*call));
            access.iter().for_each(|access| world.store.hold(*access));
            let (service, text) = (world.service(), id.to_string());
            let task = tokio::spawn(async move { service.remove_container(&text, false).await });
            world.quiet().await;
            task.abort();
            world.crash();
            call.iter().for_each(|call| world.sim.release(*call));
            access.iter().for_each(|access| world.store.release_held(*access));
            world.start().await;
            nothing_is_left_but(&world, &[], &when).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_leaves_the_container_to_its_user() {
    let mut world = World::new().await;
    let id = used(&world).await.container.id;
    world.sim.fail_next(Call::Remove, Error::new(Kind::Internal, "as arranged"));
    world.remove(&id).await.unwrap_err();
    world.restart().await;
    world.pass(minutes(5)).await;
    assert!(world.runs(&id).await);
    world.request(&id).await.unwrap();
    world.remove(&id).await.unwrap();
    nothing_is_left_but(&world, &[], "removed").await;
}

#[tokio::test(start_paused = true)]
async fn who_has_his_store_for_himself_clears_up_at_once() {
    let mut world = World::new().await;
    world.store.make_exclusive();
    for call in [Call::Create, Call::PutFiles, Call::Start] {
        world.sim.hold(call);
        let (service, key) = (world.service(), spindown::service::container::IdempotencyKey::parse("once").unwrap());
        let full = || NewContainer {
            name: Some(Name::parse("sandbox").unwrap()),
            authorized_keys: Some(AuthorizedKeys::parse(KEY).unwrap()),
            ..wanted()
        };
        let (first, once) = (full(), key.clone());
        let task = tokio::spawn(async move { service.create_container("ada", first, Some(&once)).await });
        world.quiet().await;
        task.abort();
        world.crash();
        world.sim.release(call);
        world.start().await;
        nothing_is_left_but(&world, &[], &format!("{call:?}")).await;
        let made = world.service().create_container("ada", full(), Some(&key)).await.unwrap().container.id;
        nothing_is_left_but(&world, std::slice::from_ref(&made), &format!("{call:?}")).await;
        world.remove(&made).await.unwrap();
    }
}
