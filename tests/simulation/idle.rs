//! Stories of containers that are stopped for being idle, and of those that must not be.

use std::time::Duration;

use spindown::{
    engine::sim::Call,
    model::{ContainerId, Error, Kind, Status, StoppedBy},
    policy::idle::{Sign, Verdict},
};

use crate::support::{
    memory::Access,
    world::{BEAT, SWEEP, World, minutes},
};

/// Asserts that the idle policy has stopped it, and that nobody has forgotten what is its.
async fn is_stopped_by_idle(world: &World, id: &ContainerId) {
    assert!(!world.runs(id).await, "{:?}", world.service().activity(id.as_str()));
    let report = world.report(id);
    assert_eq!(report.status, Status::Stopped);
    let stopped = report.container.stopped.unwrap();
    assert_eq!((stopped.by, stopped.ordered), (StoppedBy::Idle, true));
    assert_eq!(report.container.stopping, None);
}

#[tokio::test(start_paused = true)]
async fn it_is_stopped_at_the_timeout_and_comes_back_as_it_was() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    let before = world.report(&id);
    world.pass(minutes(10) - BEAT).await;
    assert!(world.runs(&id).await);
    world.pass(BEAT + SWEEP).await;
    is_stopped_by_idle(&world, &id).await;
    let after = world.order_start(&id).await.unwrap();
    assert_eq!(after.status, Status::Running);
    assert_eq!(after.container.stopped, None);
    assert_eq!(
        (&after.container.id, &after.container.ports, after.container.address),
        (&before.container.id, &before.container.ports, before.container.address)
    );
    // The start is a sign of use: the clock runs from there.
    world.pass(minutes(9)).await;
    assert!(world.runs(&id).await);
    world.pass(minutes(2)).await;
    is_stopped_by_idle(&world, &id).await;
}

#[tokio::test(start_paused = true)]
async fn reported_connections_keep_it_and_zero_does_not() {
    let mut world = World::new().await;
    let (used, alive) = (world.create("10m").await, world.create("10m").await);
    world.connect(&used, 1);
    world.connect(&alive, 0);
    world.pass(minutes(10) + SWEEP).await;
    assert!(world.runs(&used).await);
    is_stopped_by_idle(&world, &alive).await;
    world.pass(minutes(300)).await;
    assert!(world.runs(&used).await);
    world.connect(&used, 0);
    world.pass(minutes(9)).await;
    assert!(world.runs(&used).await);
    world.pass(minutes(1) + SWEEP).await;
    is_stopped_by_idle(&world, &used).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_as_use_and_never_means_never() {
    let mut world = World::new().await;
    let (asked, never) = (world.create("10m").await, world.create("never").await);
    world.pass(minutes(9)).await;
    world.request(&asked).await.unwrap();
    world.pass(minutes(9)).await;
    assert!(world.runs(&asked).await);
    world.pass(minutes(2)).await;
    is_stopped_by_idle(&world, &asked).await;
    world.pass(minutes(10_000)).await;
    assert!(world.runs(&never).await);
    assert_eq!(world.report(&never).stops_at, None);
}

#[tokio::test(start_paused = true)]
async fn a_changed_timeout_counts_at_once() {
    let mut world = World::new().await;
    let id = world.create("2h").await;
    world.pass(minutes(60)).await;
    world.set_timeout(&id, "5m").await.unwrap();
    assert_eq!(world.report(&id).stops_at, Some(world.now() + minutes(5)));
    world.pass(minutes(4)).await;
    world.set_timeout(&id, "never").await.unwrap();
    world.pass(minutes(600)).await;
    assert!(world.runs(&id).await);
    world.set_timeout(&id, "20m").await.unwrap();
    world.pass(minutes(19)).await;
    assert!(world.runs(&id).await);
    world.pass(minutes(2)).await;
    is_stopped_by_idle(&world, &id).await;
}

/// What may come in while a stop is being decided.
#[derive(Clone, Copy, Debug)]
enum Sudden {
    CheckIn,
    Request,
    Start,
}

/// Where the deciding is held up.
#[derive(Clone, Copy, Debug)]
enum Held {
    Engine(Call),
    Store(Access),
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_at_the_last_moment_keeps_it() {
    for held in [Held::Engine(Call::Inspect), Held::Store(Access::Activity), Held::Store(Access::Put)] {
        for sudden in [Sudden::CheckIn, Sudden::Request, Sudden::Start] {
            let mut world = World::new().await;
            let id = world.create("10m").await;
            world.pass(minutes(10) - BEAT).await;
            world.gap(BEAT);
            let count = |world: &World| match held {
                Held::Engine(call) => world.sim.count(call),
                Held::Store(access) => world.store.count(access),
            };
            let before = count(&world);
            match held {
                Held::Engine(call) => world.sim.hold(call),
                Held::Store(access) => world.store.hold(access),
            }
            let service = world.service();
            let sweep = tokio::spawn(async move { service.sweep().await });
            world.until("the sweep is held up", || count(&world) > before).await;
            let service = world.service();
            let text = id.to_string();
            let sudden_task = match sudden {
                Sudden::CheckIn => {
                    world.check_in(&id, 2).unwrap();
                    tokio::spawn(async {})
                }
                Sudden::Request => tokio::spawn(async move {
                    service.update_container(&text, Default::default()).await.unwrap();
                }),
                Sudden::Start => tokio::spawn(async move {
                    service.start_container(&text).await.unwrap();
                }),
            };
            world.quiet().await;
            match held {
                Held::Engine(call) => world.sim.release(call),
                Held::Store(access) => world.store.release_held(access),
            }
            sweep.await.unwrap();
            sudden_task.await.unwrap();
            world.settle().await;
            assert_eq!(world.sim.count(Call::Stop), 0, "{held:?} {sudden:?}");
            let report = world.report(&id);
            assert_eq!(report.status, Status::Running, "{held:?} {sudden:?}");
            assert_eq!(report.container.stopping, None, "{held:?} {sudden:?}");
            // It is kept for now, not forever.
            world.pass(minutes(11)).await;
            is_stopped_by_idle(&world, &id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_tried_again_with_back_off_and_seen() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    for _ in 0..5 {
        world.sim.fail_next(Call::Stop, Error::new(Kind::Internal, "the engine is confused"));
    }
    world.pass(minutes(10)).await;
    let report = world.service().activity(id.as_str()).unwrap();
    assert_eq!(report.status, Status::Stopping);
    let trouble = report.trouble.unwrap();
    assert_eq!((trouble.failures, trouble.message.as_str()), (1, "the engine is confused"));
    assert_eq!(trouble.next_try_at, world.now() + Duration::from_secs(1));
    let mut tries = Vec::new();
    for second in 1..=100 {
        world.gap(Duration::from_secs(1));
        let before = world.sim.count(Call::Stop);
        world.beat().await;
        if world.sim.count(Call::Stop) > before {
            tries.push(second);
        }
    }
    assert_eq!(tries, [1, 3, 7, 15, 31]);
    is_stopped_by_idle(&world, &id).await;
    assert!(world.service().activity(id.as_str()).unwrap().trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn use_while_a_stop_is_being_tried_again_overrules_it() {
    for sudden in [Sudden::CheckIn, Sudden::Request, Sudden::Start] {
        let mut world = World::new().await;
        let id = world.create("10m").await;
        for _ in 0..3 {
            world.sim.fail_next(Call::Stop, Error::unavailable("busy"));
        }
        world.pass(minutes(10)).await;
        assert_eq!(world.status(&id), Status::Stopping);
        match sudden {
            Sudden::CheckIn => _ = world.check_in(&id, 1).unwrap(),
            Sudden::Request => _ = world.request(&id).await.unwrap(),
            Sudden::Start => _ = world.order_start(&id).await.unwrap(),
        }
        let tried = world.sim.count(Call::Stop);
        world.pass(minutes(9)).await;
        assert_eq!(world.sim.count(Call::Stop), tried, "{sudden:?}");
        assert_eq!(world.status(&id), Status::Running, "{sudden:?}");
        assert!(world.service().activity(id.as_str()).unwrap().trouble.is_none(), "{sudden:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_answer_got_lost_is_no_trouble() {
    let world = World::new().await;
    let id = world.create("10m").await;
    let engine_id = world.engine_id(&id).await.unwrap();
    world.sim.lose_events(true);
    world.sim.fail_next(Call::Stop, Error::unavailable("the answer came too late"));
    world.sim.hold(Call::Stop);
    world.order_stop(&id).await.unwrap();
    world.until("it is being stopped", || world.sim.count(Call::Stop) == 1).await;
    world.sim.kill_behind(&engine_id);
    world.sim.release(Call::Stop);
    world.settle().await;
    let report = world.service().activity(id.as_str()).unwrap();
    assert_eq!(report.status, Status::Stopped);
    assert!(report.trouble.is_none(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_stopped_at_once() {
    let mut world = World::with(|settings| settings.stops_at_once = 3).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.create("10m").await);
    }
    world.pass(minutes(10) - BEAT).await;
    world.gap(BEAT);
    world.sim.hold(Call::Stop);
    let service = world.service();
    let sweep = tokio::spawn(async move { service.sweep().await });
    world.until("stops begin", || world.sim.count(Call::Stop) == 3).await;
    world.quiet().await;
    assert_eq!(world.sim.count(Call::Stop), 3);
    let stopping = |world: &World| world.list().iter().filter(|r| r.status == Status::Stopping).count();
    assert_eq!(stopping(&world), 3);
    // Another sweep meanwhile does nothing, and does not wait.
    world.service().sweep().await;
    assert_eq!(world.sim.count(Call::Stop), 3);
    world.sim.release(Call::Stop);
    sweep.await.unwrap();
    assert_eq!(world.sim.count(Call::Stop), 10);
    for id in &ids {
        is_stopped_by_idle(&world, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_activity_tells_what_was_seen_and_what_comes() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    let started = world.now();
    world.pass(minutes(1)).await;
    world.check_in(&id, 3).unwrap();
    world.pass(minutes(1)).await;
    world.check_in(&id, 0).unwrap();
    world.pass(minutes(1)).await;
    let report = world.service().activity(id.as_str()).unwrap();
    let seen: Vec<_> = report.evidence.iter().map(|e| (e.sign, e.age, e.connections)).collect();
    assert_eq!(
        seen,
        [
            (Sign::CheckIn, minutes(1), Some(0)),
            (Sign::Connections, minutes(2), None),
            (Sign::Start, minutes(3), None),
            (Sign::Request, minutes(3), None),
        ]
    );
    assert_eq!((report.verdict, report.changes_at), (Verdict::Keep, Some(started + minutes(11))));
}
