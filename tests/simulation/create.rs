//! Creates that fail or are cut off at every step leave nothing behind, and nothing that was handed out is lost.

use std::collections::{BTreeMap, BTreeSet};

use spindown::{
    engine::{Engine, sim::Call},
    model::{Claim, ContainerId, Error, Image, Kind, Name, Result, Status},
    service::container::{AuthorizedKeys, Change, IdempotencyKey, NewContainer, Report},
};

use crate::support::{
    memory::{Access, Fault},
    world::{IMAGE, LEFTOVER, World, minutes, sandbox, wanted},
};

pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@home";

/// Every call of the engine that a create makes …
const CALLS: [Call; 8] = [
    Call::Disk,
    Call::Image,
    Call::Create,
    Call::GetFiles,
    Call::PutFiles,
    Call::FreeMemory,
    Call::Start,
    Call::Inspect,
];
/// … and of the store.
const ACCESSES: [Access; 4] = [Access::Begin, Access::Claims, Access::Claim, Access::Put];

/// A place at which a create can be held up or made to fail.
#[derive(Clone, Copy, Debug)]
enum Step {
    Engine(Call),
    Store(Access),
}

impl Step {
    fn all() -> impl Iterator<Item = Self> {
        CALLS.map(Self::Engine).into_iter().chain(ACCESSES.map(Self::Store))
    }

    fn hold(self, world: &World) {
        match self {
            Self::Engine(call) => world.sim.hold(call),
            Self::Store(access) => world.store.hold(access),
        }
    }

    fn release(self, world: &World) {
        match self {
            Self::Engine(call) => world.sim.release(call),
            Self::Store(access) => world.store.release_held(access),
        }
    }

    /// Waits until such a call waits, and nothing else goes on.
    async fn reached(self, world: &World, before: usize) {
        world.until("it is held up", || self.count(world) > before).await;
        world.quiet().await;
    }

    fn count(self, world: &World) -> usize {
        match self {
            Self::Engine(call) => world.sim.count(call),
            Self::Store(access) => world.store.count(access),
        }
    }
}

fn full() -> NewContainer {
    let authorized_keys = Some(AuthorizedKeys::parse(KEY).unwrap());
    NewContainer { name: Some(Name::parse("sandbox").unwrap()), authorized_keys, ..wanted() }
}

fn key() -> IdempotencyKey {
    IdempotencyKey::parse("once").unwrap()
}

async fn create(world: &World) -> Result<Report> {
    world.service().create_container("admin", full(), Some(&key())).await
}

/// Asserts that no port and no address has two holders, in what is told, in the store, and between them.
pub fn nothing_is_held_twice(world: &World) {
    let mut held = BTreeSet::new();
    let owners: BTreeMap<_, _> = world.store.held_claims().into_iter().collect();
    for report in world.list() {
        let container = report.container;
        let claims = container.ports.iter().map(|p| Claim::Port(p.host)).chain(container.address.map(Claim::Address));
        for claim in claims {
            assert!(held.insert(claim), "{claim:?} belongs to two containers");
            let owner = owners.get(&claim);
            assert!(owner.is_none_or(|owner| *owner == container.id), "{claim:?} is claimed by {owner:?}");
        }
    }
}

/// Asserts that there is nothing of any container but `kept`, anywhere.
pub async fn nothing_is_left_but(world: &World, kept: &[ContainerId], when: &str) {
    let kept: BTreeSet<_> = kept.iter().cloned().collect();
    let at_engine: BTreeSet<_> = world.sim.list().await.unwrap().into_iter().map(|l| l.id).collect();
    assert_eq!(at_engine, kept, "at the engine: {when}");
    assert_eq!(world.list().into_iter().map(|r| r.container.id).collect::<BTreeSet<_>>(), kept, "listed: {when}");
    assert_eq!(world.store.recorded().into_iter().collect::<BTreeSet<_>>(), kept, "recorded: {when}");
    assert!(world.store.remembered().iter().all(|id| kept.contains(id)), "remembered: {when}");
    let claims = world.store.held_claims();
    assert_eq!(claims.iter().map(|(_, id)| id.clone()).collect::<BTreeSet<_>>(), kept, "claimed: {when}");
    assert_eq!(claims.len(), 3 * kept.len(), "claimed: {when}");
    nothing_is_held_twice(world);
}

#[tokio::test(start_paused = true)]
async fn what_fails_at_any_step_leaves_nothing() {
    for call in CALLS {
        for kind in [Kind::Internal, Kind::Unavailable] {
            let mut world = World::new().await;
            let when = format!("{call:?} {kind:?}");
            // The follower looks too, and is not who is to fail.
            world.sim.lose_events(true);
            world.sim.fail_next(call, Error::new(kind, "as arranged"));
            assert_eq!(create(&world).await.unwrap_err().kind(), kind, "{when}");
            nothing_is_left_but(&world, &[], &when).await;
            let made = create(&world).await.unwrap().container.id;
            world.pass(2 * LEFTOVER).await;
            nothing_is_left_but(&world, &[made], &when).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_step_leaves_nothing() {
    for access in ACCESSES {
        for fault in [Fault::Before, Fault::After] {
            let mut world = World::new().await;
            let when = format!("{access:?} {fault:?}");
            world.store.fail_next(access, fault);
            let first = create(&world).await.map(|r| r.container.id);
            if let Err(error) = &first {
                assert_eq!(error.kind(), Kind::Unavailable, "{when}");
                assert_eq!(world.list().len(), 0, "{when}");
                assert_eq!(world.sim.list().await.unwrap(), [], "{when}");
            }
            let made = create(&world).await.unwrap().container.id;
            // What was answered with a container stays answered with it.
            assert!(first.as_ref().map_or(true, |first| *first == made), "{when}");
            world.pass(2 * LEFTOVER).await;
            nothing_is_left_but(&world, &[made], &when).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_for_good_at_any_step_leaves_nothing() {
    for access in ACCESSES {
        for unstartable in [false, true] {
            if unstartable && access == Access::Put {
                // Nothing is written down before the start.
                continue;
            }
            let mut world = World::new().await;
            let when = format!("{access:?} {unstartable}");
            world.store.hold(access);
            if unstartable {
                world.sim.fail_next(Call::Start, Error::new(Kind::Unsuitable, "as arranged"));
            }
            let service = world.service();
            let task = tokio::spawn(async move { service.create_container("admin", full(), Some(&key())).await });
            Step::Store(access).reached(&world, 0).await;
            world.store.go_down();
            world.store.release_held(access);
            let first = task.await.unwrap().map(|r| r.container.id);
            world.pass(minutes(1)).await;
            world.store.come_back();
            world.pass(2 * LEFTOVER).await;
            nothing_is_left_but(&world, &first.iter().cloned().collect::<Vec<_>>(), &when).await;
            if first.is_err() {
                world.sim.forgive();
            }
            let made = create(&world).await.unwrap().container.id;
            assert!(first.as_ref().map_or(true, |first| *first == made), "{when}");
            nothing_is_left_but(&world, &[made], &when).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_at_any_step_is_cleared_away_or_found_again() {
    for step in Step::all() {
        for crash in [false, true] {
            let mut world = World::new().await;
            let when = format!("{step:?} {}", if crash { "crash" } else { "the caller left" });
            let before = step.count(&world);
            step.hold(&world);
            let service = world.service();
            let task = tokio::spawn(async move { service.create_container("admin", full(), Some(&key())).await });
            step.reached(&world, before).await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled(), "{when}");
            if crash {
                world.crash();
            }
            step.release(&world);
            if crash {
                world.start().await;
            }
            world.pass(minutes(1)).await;
            // Whoever repeats it at once gets a container, and it stays.
            let listed: Vec<_> = world.list().into_iter().map(|r| r.container.id).collect();
            let made = NewContainer { name: None, ..full() };
            let made = if listed.is_empty() {
                world.service().create_container("admin", made, None).await.unwrap().container.id
            } else {
                let again = create(&world).await.unwrap();
                assert_eq!(
                    (std::slice::from_ref(&again.container.id), again.status),
                    (&listed[..], Status::Running),
                    "{when}"
                );
                again.container.id
            };
            world.pass(2 * LEFTOVER).await;
            nothing_is_left_but(&world, std::slice::from_ref(&made), &when).await;
            assert!(world.runs(&made).await, "{when}");
            if listed.is_empty() {
                let again = create(&world).await.unwrap().container.id;
                assert_eq!(create(&world).await.unwrap().container.id, again, "{when}");
                nothing_is_left_but(&world, &[made, again], &when).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_started_is_handed_to_nobody() {
    let mut world = World::new().await;
    world.sim.hold(Call::Start);
    let service = world.service();
    let task = tokio::spawn(async move { service.create_container("admin", full(), Some(&key())).await });
    Step::Engine(Call::Start).reached(&world, 0).await;
    world.crash();
    world.sim.release(Call::Start);
    world.start().await;
    assert_eq!(world.list().len(), 0);
    task.abort();
    // The name is still taken by what is left, which is said; what is given out is not taken away later.
    let again = world.service().create_container("admin", full(), Some(&key())).await;
    let kept: Vec<_> = again.into_iter().map(|r| r.container.id).collect();
    world.pass(2 * LEFTOVER).await;
    nothing_is_left_but(&world, &kept, "after a crash before the start").await;
}

#[tokio::test(start_paused = true)]
async fn of_creates_at_once_with_one_key_one_is_made() {
    let world = World::new().await;
    let creates = (0..10).map(|_| {
        let service = world.service();
        tokio::spawn(async move { service.create_container("admin", full(), Some(&key())).await })
    });
    let ids: BTreeSet<_> =
        futures::future::join_all(creates).await.into_iter().map(|made| made.unwrap().unwrap().container.id).collect();
    assert_eq!(ids.len(), 1);
    nothing_is_left_but(&world, &ids.into_iter().collect::<Vec<_>>(), "ten at once").await;
}

#[tokio::test(start_paused = true)]
async fn creates_queue_for_their_start_and_too_many_are_refused() {
    let world = World::with(|settings| (settings.starts_at_once, settings.starts_waiting) = (2, 4)).await;
    world.sim.hold(Call::Start);
    let create = || {
        let service = world.service();
        tokio::spawn(async move { service.create_container("admin", wanted(), None).await })
    };
    let creates: Vec<_> = (0..6).map(|_| create()).collect();
    Step::Engine(Call::Start).reached(&world, 0).await;
    assert_eq!(world.sim.count(Call::Start), 2);
    assert_eq!(create().await.unwrap().unwrap_err().kind(), Kind::Exhausted);
    world.sim.release(Call::Start);
    let made: Vec<_> =
        futures::future::join_all(creates).await.into_iter().map(|made| made.unwrap().unwrap().container.id).collect();
    assert_eq!(made.len(), 6);
    nothing_is_left_but(&world, &made, "a queue").await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_on_one_container_ends_in_one_state() {
    for remove in [false, true] {
        let mut world = World::new().await;
        let id = world.create("10m").await;
        let storm = (0..60).map(|number| {
            let (service, id) = (world.service(), id.to_string());
            let address = world.report(&ContainerId::parse(&id).unwrap()).container.address.unwrap();
            tokio::spawn(async move {
                for _ in 0..number % 7 {
                    tokio::task::yield_now().await;
                }
                let labels = Some([("number".to_owned(), number.to_string())].into());
                match number % 6 {
                    0 => _ = service.start_container(&id).await,
                    1 => _ = service.stop_container(&id).await,
                    2 => _ = service.update_container(&id, Change { labels, ..Change::default() }).await,
                    3 => _ = service.check_in(address.into(), number % 2),
                    4 => _ = service.refresh_all(true).await,
                    _ if remove && number == 35 => _ = service.remove_container(&id, false).await,
                    _ => service.sweep().await,
                }
            })
        });
        futures::future::join_all(storm).await;
        world.pass(minutes(1)).await;
        if remove {
            nothing_is_left_but(&world, &[], "a storm").await;
            continue;
        }
        nothing_is_left_but(&world, std::slice::from_ref(&id), "a storm").await;
        let report = world.report(&id);
        let expected = if world.runs(&id).await { Status::Running } else { Status::Stopped };
        assert_eq!((report.status, report.container.stopping), (expected, None));
        assert_eq!(report.container.stopped.is_some(), expected == Status::Stopped);
        assert_eq!(world.store.records(), [report.container]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_at_what_is_being_removed_does_not_bring_it_back() {
    for access in [Access::Remove, Access::Release] {
        let mut world = World::new().await;
        let id = world.create("never").await;
        world.store.hold(access);
        world.sim.hold(Call::Inspect);
        let (service, text) = (world.service(), id.to_string());
        let remove = tokio::spawn(async move { service.remove_container(&text, false).await });
        let service = world.service();
        let look = tokio::spawn(async move { service.refresh_all(true).await });
        world.quiet().await;
        world.sim.release(Call::Inspect);
        world.quiet().await;
        world.store.release_held(access);
        remove.await.unwrap().unwrap();
        let _ = look.await.unwrap();
        world.pass(2 * LEFTOVER).await;
        nothing_is_left_but(&world, &[], "removed").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_started_just_before_it_is_cleared_away_stays() {
    let mut world = World::new().await;
    world.sim.hold(Call::Start);
    let service = world.service();
    let task = tokio::spawn(async move { service.create_container("admin", full(), None).await });
    Step::Engine(Call::Start).reached(&world, 0).await;
    task.abort();
    world.sim.release(Call::Start);
    let left = world.sim.list().await.unwrap();
    world.pass(LEFTOVER / 2).await;
    // Somebody starts it behind our back, while the engine's list, taken before, is being gone through.
    world.gap(LEFTOVER);
    world.store.hold(Access::Claims);
    let service = world.service();
    let refresh = tokio::spawn(async move { service.refresh_all(false).await });
    Step::Store(Access::Claims).reached(&world, world.store.count(Access::Claims)).await;
    world.sim.start_behind(&left[0].engine_id).unwrap();
    world.store.release_held(Access::Claims);
    refresh.await.unwrap().unwrap();
    world.pass(minutes(1)).await;
    assert!(world.runs(&left[0].id).await);
    nothing_is_left_but(&world, &[left[0].id.clone()], "started").await;
}

#[tokio::test(start_paused = true)]
async fn who_logs_in_is_read_once_an_image() {
    let world = World::new().await;
    let create = async || {
        let wanted = NewContainer { name: None, ..full() };
        world.service().create_container("admin", wanted, None).await.unwrap()
    };
    create().await;
    create().await;
    assert_eq!(world.sim.count(Call::GetFiles), 1);
    // Another build under the same name may have other users.
    world.sim.add_image(IMAGE, Image { id: "another".to_owned(), ..sandbox() });
    create().await;
    create().await;
    assert_eq!(world.sim.count(Call::GetFiles), 2);
    assert_eq!(world.sim.count(Call::PutFiles), 4);
}
