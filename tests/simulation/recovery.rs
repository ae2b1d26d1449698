//! Stories of crashes, outages and clocks that are wrong: nobody is stopped for them, and nothing is forgotten over them.

use std::collections::BTreeMap;

use spindown::{
    engine::sim::Call,
    model::{Error, Kind, MountPoint, Status, StoppedBy, VolumeName},
    service::container::NewContainer,
};

use crate::support::{
    memory::{Access, Fault},
    world::{BEAT, GAP, SWEEP, World, minutes, wanted},
};

fn fault() -> Error {
    Error::new(Kind::Internal, "the engine is confused")
}

#[tokio::test(start_paused = true)]
async fn an_idle_order_from_before_a_crash_is_judged_anew() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    world.sim.fail_next(Call::Stop, fault());
    world.pass(minutes(10)).await;
    assert_eq!(world.status(&id), Status::Stopping);
    world.restart().await;
    world.pass(minutes(9)).await;
    assert!(world.runs(&id).await);
    assert_eq!(world.status(&id), Status::Running);
    world.pass(minutes(2)).await;
    assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_users_order_from_before_a_crash_is_carried_out() {
    for wall in [0, 3_600, -3_600] {
        let mut world = World::new().await;
        let id = world.create("never").await;
        world.pass(minutes(1)).await;
        // Whatever the wall clock did between the start and the order.
        world.jump(time::Duration::seconds(wall));
        world.sim.fail_next(Call::Stop, fault());
        world.order_stop(&id).await.unwrap();
        world.settle().await;
        assert_eq!(world.status(&id), Status::Stopping, "{wall}");
        world.restart().await;
        world.beat().await;
        assert!(!world.runs(&id).await, "{wall}");
        assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::User, "{wall}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_does_not_outlive_the_run_it_was_given_for() {
    for wall in [0, 3_600, -3_600] {
        let mut world = World::new().await;
        let id = world.create("never").await;
        world.pass(minutes(1)).await;
        world.sim.fail_next(Call::Stop, fault());
        world.order_stop(&id).await.unwrap();
        world.settle().await;
        world.crash();
        world.kill_behind(&id).await;
        world.jump(time::Duration::seconds(wall));
        world.gap(minutes(1));
        world.start_behind(&id).await;
        world.start().await;
        world.pass(minutes(2)).await;
        assert!(world.runs(&id).await, "{wall}");
        let report = world.report(&id);
        assert_eq!((report.status, report.container.stopping), (Status::Running, None), "{wall}");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_has_fresh_grace_after_whatever_may_have_hidden_them() {
    type Interruption = (&'static str, fn(&mut World));
    let interruptions: [Interruption; 5] = [
        ("a gap", |world| world.gap(GAP)),
        ("a jump ahead", |world| world.jump(time::Duration::hours(9))),
        ("a jump back", |world| world.jump(-time::Duration::hours(9))),
        ("the store was away", |world| world.store.go_down()),
        ("the engine was away", |world| world.sim.go_down()),
    ];
    for (what, interrupt) in interruptions {
        let mut world = World::new().await;
        let id = world.create("10m").await;
        world.pass(minutes(8)).await;
        interrupt(&mut world);
        world.pass(minutes(1)).await;
        let away = what.ends_with("away");
        if away {
            // However long that takes.
            world.pass(minutes(30)).await;
            assert_eq!(world.sim.count(Call::Stop), 0, "{what}");
        }
        world.store.come_back();
        world.sim.come_back(false);
        world.pass(if away { minutes(9) } else { minutes(8) }).await;
        assert!(world.runs(&id).await, "{what}");
        world.pass(minutes(1) + 2 * SWEEP).await;
        assert!(!world.runs(&id).await, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_restarted_is_told_apart_from_a_person() {
    let mut world = World::new().await;
    let (ended, stopped) = (world.create("never").await, world.create("never").await);
    world.pass(minutes(1)).await;
    world.kill_behind(&stopped).await;
    world.settle().await;
    assert_eq!(world.report(&stopped).container.stopped.unwrap().by, StoppedBy::User);
    world.pass(minutes(1)).await;
    world.sim.go_down();
    world.pass(minutes(1)).await;
    world.sim.come_back(true);
    world.pass(minutes(1)).await;
    assert_eq!(world.report(&ended).container.stopped.unwrap().by, StoppedBy::Host);
    assert_eq!(world.report(&stopped).container.stopped.unwrap().by, StoppedBy::User);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_answers_haltingly_at_first_was_restarted_all_the_same() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    world.pass(minutes(1)).await;
    world.sim.go_down();
    world.pass(BEAT).await;
    world.sim.come_back(true);
    for _ in 0..3 {
        world.sim.fail_next(Call::List, Error::unavailable("not ready yet"));
    }
    world.pass(minutes(1)).await;
    assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::Host);
}

#[tokio::test(start_paused = true)]
async fn what_happens_at_the_engine_is_seen_while_the_store_is_away() {
    for hangs in [false, true] {
        let mut world = World::new().await;
        let (one, other) = (world.create("never").await, world.create("never").await);
        if hangs {
            world.store.hang()
        } else {
            world.store.go_down()
        }
        world.pass(minutes(5)).await;
        world.kill_behind(&one).await;
        world.settle().await;
        assert_eq!((world.status(&one), world.status(&other)), (Status::Stopped, Status::Running));
        world.start_behind(&one).await;
        world.settle().await;
        assert_eq!(world.status(&one), Status::Running);
        world.sim.lose_events(true);
        world.kill_behind(&other).await;
        world.pass(minutes(1)).await;
        assert_eq!(world.status(&other), Status::Stopped);
        let seen = world.report(&other).container.stopped;
        world.store.come_back();
        world.pass(minutes(1)).await;
        world.restart().await;
        assert_eq!(world.report(&other).container.stopped, seen);
    }
}

#[tokio::test(start_paused = true)]
async fn touches_outlive_an_outage_of_the_store() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    world.pass(minutes(1)).await;
    world.store.go_down();
    world.pass(minutes(1)).await;
    world.check_in(&id, 7).unwrap();
    let seen = world.report(&id).last_active_at;
    world.pass(minutes(5)).await;
    world.store.come_back();
    world.pass(BEAT).await;
    world.restart().await;
    assert_eq!(world.report(&id).last_active_at, seen);
    assert_eq!(world.report(&id).connections, 7);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_as_old_as_its_start_here_whatever_the_engines_clock_says() {
    let mut world = World::new().await;
    world.skew_engine(-time::Duration::hours(3));
    let id = world.create("10m").await;
    world.pass(minutes(30)).await;
    assert!(!world.runs(&id).await);
    world.start_behind(&id).await;
    world.pass(minutes(9)).await;
    assert!(world.runs(&id).await);
    world.pass(minutes(2)).await;
    assert!(!world.runs(&id).await);
}

#[tokio::test(start_paused = true)]
async fn deleting_the_store_forgets_no_container() {
    let mut world = World::new().await;
    let (up, down) = (world.create("10m").await, world.create("1h").await);
    world.pass(minutes(1)).await;
    world.order_stop(&down).await.unwrap();
    world.settle().await;
    let before: Vec<_> = [&up, &down].map(|id| world.report(id).container).into();
    world.crash();
    world.store.wipe();
    world.start().await;
    for old in before {
        let new = world.report(&old.id).container;
        assert_eq!((new.name, new.ports, new.address), (old.name, old.ports, old.address));
        assert_eq!((new.idle_timeout, new.owner, new.image), (old.idle_timeout, old.owner, old.image));
    }
    // Their ports and addresses are theirs again.
    let other = world.create("never").await;
    super::create::nothing_is_held_twice(&world);
    assert_eq!(world.store.held_claims().len(), 9);
    world.pass(minutes(9)).await;
    assert!(world.runs(&up).await);
    world.pass(minutes(2)).await;
    assert!(!world.runs(&up).await);
    assert!(world.runs(&other).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_everything_under_a_running_server_stops_nobody() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    world.connect(&id, 1);
    world.set_timeout(&id, "15m").await.unwrap();
    world.pass(minutes(60)).await;
    world.store.wipe();
    // Whatever makes it write first.
    let _ = world.set_timeout(&id, "15m").await;
    for _ in 0..20 {
        world.pass(minutes(1)).await;
        assert!(world.runs(&id).await);
        assert_eq!(world.status(&id), Status::Running);
    }
    assert_eq!(world.report(&id).container.idle_timeout.to_string(), "900");
    super::create::nothing_is_held_twice(&world);
    assert_eq!((world.store.held_claims().len(), world.store.recorded().len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn adopted_ports_are_not_given_out_though_they_could_not_be_claimed() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    world.order_stop(&id).await.unwrap();
    world.settle().await;
    world.crash();
    world.store.wipe();
    world.store.fail_next(Access::Claim, Fault::Before);
    world.start().await;
    let other = world.create("never").await;
    super::create::nothing_is_held_twice(&world);
    world.order_start(&id).await.unwrap();
    assert!(world.runs(&id).await && world.runs(&other).await);
    world.pass(minutes(2)).await;
    assert_eq!(world.store.held_claims().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_answer_got_lost_is_not_carried_out_against_a_later_word() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    world.store.fail_next(Access::Put, Fault::After);
    assert_eq!(world.order_stop(&id).await.unwrap_err().kind(), Kind::Unavailable);
    world.order_start(&id).await.unwrap();
    world.pass(minutes(5)).await;
    assert!(world.runs(&id).await);
    world.restart().await;
    world.pass(minutes(5)).await;
    assert!(world.runs(&id).await);
}

#[tokio::test(start_paused = true)]
async fn those_who_change_one_container_do_not_wait_for_each_other_for_ever() {
    let world = World::new().await;
    let id = world.create("never").await;
    world.sim.hang();
    let begun = tokio::time::Instant::now();
    // Each holds the container's lock until the engine's deadline.
    let answers = futures::future::join_all((0..40).map(|_| world.order_start(&id))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind() == Kind::Unavailable)));
    assert!(begun.elapsed() < minutes(1), "{:?}", begun.elapsed());
    world.sim.resume();
    world.settle().await;
    world.order_start(&id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_removed_now_is_removed_later() {
    let mut world = World::new().await;
    let home = VolumeName::parse("ada-home").unwrap();
    let volumes = BTreeMap::from([(MountPoint::parse("/home/student").unwrap(), home.clone())]);
    let made = world.service().create_container("admin", NewContainer { volumes, ..wanted() }, None).await.unwrap();
    let id = made.container.id;
    world.sim.fail_next(Call::RemoveVolume, fault());
    let error = world.service().remove_container(id.as_str(), true).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    // The engine has the container no more, and could not tell what was mounted in it.
    assert!(world.seen(&id).await.is_none() && world.sim.has_volume(&home));
    world.restart().await;
    world.pass(minutes(3)).await;
    assert_eq!(world.find(&id).unwrap_err().kind(), Kind::NotFound);
    assert!(!world.sim.has_volume(&home));
}
