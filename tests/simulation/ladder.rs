//! Stories of the ladder: what is frozen, what thaws, what goes on down, and what counts as use where it is seen.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use spindown::{
    engine::sim::Call,
    model::{ContainerId, EngineState, Error, Image, Kind, Knock, Protocol, Rungs, Status, StoppedBy, Timeout, What},
    policy::idle::{Sign, Verdict},
    service::container::NewContainer,
};

use crate::support::world::{BEAT, IMAGE, SWEEP, World, minutes, sandbox, wanted};

/// Who connects.
fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 40_000))
}

/// A world whose eyes are open.
async fn seeing() -> World {
    let world = World::new().await;
    world.eyes.open();
    world
}

async fn create(world: &World, idle: &str, rungs: &[(&str, &str)]) -> ContainerId {
    create_of(world, IMAGE, idle, rungs).await
}

async fn create_of(world: &World, image: &str, idle: &str, rungs: &[(&str, &str)]) -> ContainerId {
    let timeout = Some(Timeout::parse(idle).unwrap());
    let mut wanted = NewContainer { image: image.to_owned(), idle_timeout: timeout, ..wanted() };
    for (name, text) in rungs {
        wanted.rungs.set(name, text).unwrap();
    }
    world.service().create_container("admin", wanted, None).await.unwrap().container.id
}

/// The same with a container in it, of this idle timeout, that has just been frozen.
async fn frozen(idle: &str) -> (World, ContainerId) {
    let mut world = seeing().await;
    let id = create(&world, idle, &[("freeze_after", "10m")]).await;
    world.pass(minutes(10) + SWEEP).await;
    (world, id)
}

/// The container's port to which the tests connect.
fn port(world: &World, id: &ContainerId) -> u16 {
    world.report(id).container.ports[0].container
}

/// Something comes for it.
async fn knock(world: &World, id: &ContainerId, client: SocketAddr, data: bool) {
    let report = world.report(id);
    let address = report.container.address.unwrap();
    world.kernel.knock(Knock { client, address, port: port(world, id), data });
    world.settle().await;
}

fn history(world: &World, id: &ContainerId) -> Vec<What> {
    let mut history: Vec<_> =
        world.service().activity(id.as_str()).unwrap().history.into_iter().map(|(_, what)| what).collect();
    history.reverse();
    history
}

#[tokio::test(start_paused = true)]
async fn it_is_frozen_first_and_stopped_later() {
    let mut world = seeing().await;
    let id = create(&world, "30m", &[("freeze_after", "10m")]).await;
    let next = world.service().activity(id.as_str()).unwrap().next.unwrap();
    assert_eq!(
        (next.0, next.1 - world.now()),
        (Verdict::Freeze, time::Duration::minutes(10) - time::Duration::seconds(0))
    );
    world.pass(minutes(10) - BEAT).await;
    assert_eq!(world.status(&id), Status::Running);
    world.pass(BEAT + SWEEP).await;
    assert_eq!(world.status(&id), Status::Frozen);
    assert_eq!(world.seen(&id).await.unwrap().state, EngineState::Paused);
    assert!(world.kernel.watched().contains(&world.report(&id).container.address.unwrap()));
    world.pass(minutes(18)).await;
    assert_eq!(world.status(&id), Status::Frozen);
    world.pass(minutes(2) + SWEEP).await;
    assert_eq!(world.status(&id), Status::Stopped);
    assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::Idle);
    assert!(world.kernel.watched().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_for_a_frozen_one_has_it_go_on_and_the_next_freeze_waits_longer() {
    let (mut world, id) = frozen("5h").await;
    assert_eq!(world.status(&id), Status::Frozen);
    knock(&world, &id, client(), false).await;
    assert_eq!(world.status(&id), Status::Frozen, "a mere connection is no demand");
    let next = SocketAddr::new(client().ip(), 40_001);
    knock(&world, &id, next, false).await;
    assert_eq!(world.status(&id), Status::Frozen, "nor is another one");
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
    assert!(
        history(&world, &id)
            .iter()
            .any(|what| matches!(what, What::Woken { client: from, .. } if *from == client().ip()))
    );
    let activity = world.service().activity(id.as_str()).unwrap();
    assert_eq!(activity.false_freezes, 0, "nobody knows what he wants");
    world.eyes.moves(&id, port(&world, &id), client());
    world.pass(BEAT * 4).await;
    assert_eq!(world.service().activity(id.as_str()).unwrap().false_freezes, 1);
    world.pass(minutes(15)).await;
    assert_eq!(world.status(&id), Status::Running, "twice as long by now");
    world.pass(minutes(6)).await;
    assert_eq!(world.status(&id), Status::Frozen);
    // One that stayed quiet for long was no mistake.
    world.pass(minutes(20)).await;
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
    assert_eq!(world.service().activity(id.as_str()).unwrap().false_freezes, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_even_let_into_the_queue_has_it_go_on() {
    let (mut world, id) = frozen("5h").await;
    knock(&world, &id, client(), false).await;
    assert_eq!(world.status(&id), Status::Frozen);
    world.pass(Duration::from_secs(1)).await;
    knock(&world, &id, client(), false).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_unread_thaw_it_though_nobody_told_of_them() {
    let mut world = seeing().await;
    let id = create(&world, "5h", &[("freeze_after", "10m")]).await;
    world.eyes.moves(&id, port(&world, &id), client());
    world.pass(minutes(11) + SWEEP).await;
    assert_eq!(world.status(&id), Status::Frozen);
    world.eyes.arrives(&id, port(&world, &id), client());
    world.pass(BEAT).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn one_who_merely_looks_in_is_let_in_and_keeps_nothing_up() {
    let (mut world, id) = frozen("1h").await;
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
    world.pass(minutes(2)).await;
    assert_eq!(world.status(&id), Status::Frozen, "and costs the next freeze no time");
    assert_eq!(world.service().activity(id.as_str()).unwrap().false_freezes, 0);
    world.pass(minutes(47)).await;
    assert_eq!(world.status(&id), Status::Stopped, "it was no use: the clock runs from before");
}

#[tokio::test(start_paused = true)]
async fn nothing_frozen_is_forgotten_when_the_server_dies_or_ends() {
    let (mut world, id) = frozen("5h").await;
    world.restart().await;
    assert_eq!(world.status(&id), Status::Frozen);
    world.beat().await;
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running, "known to be ours after a restart");
    world.pass(minutes(20) + SWEEP).await;
    assert_eq!(world.status(&id), Status::Frozen);
    // The store forgets, and so it is not known any more who froze it.
    world.crash();
    world.store.wipe();
    world.start().await;
    world.beat().await;
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
    world.pass(minutes(20) + SWEEP).await;
    assert_eq!(world.status(&id), Status::Frozen);
    world.service().close(Duration::from_secs(5)).await;
    assert_eq!(world.seen(&id).await.unwrap().state, EngineState::Running, "nobody would notice who comes");
}

#[tokio::test(start_paused = true)]
async fn an_order_to_freeze_does_not_outlive_the_freeze() {
    let mut world = seeing().await;
    world.store.make_exclusive();
    let id = create(&world, "5h", &[("freeze_after", "10m")]).await;
    world.pass(minutes(10) + SWEEP).await;
    // It goes on, and that could not be written down.
    world.store.go_down();
    knock(&world, &id, client(), true).await;
    assert!(world.runs(&id).await);
    world.crash();
    world.store.come_back();
    world.start().await;
    world.pass(minutes(1)).await;
    assert_eq!(world.report(&id).container.freezing, None);
    world.beat().await;
    assert!(world.kernel.watched().is_empty());
    world.sim.freeze_behind(&world.engine_id(&id).await.unwrap());
    world.settle().await;
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Frozen, "it is theirs");
}

#[tokio::test(start_paused = true)]
async fn what_was_frozen_though_the_engine_did_not_say_so_is_known_to_be_ours() {
    let mut world = seeing().await;
    let id = create(&world, "5h", &[]).await;
    world.sim.hold(Call::Freeze);
    let (service, name) = (world.service(), id.clone());
    let freeze = tokio::spawn(async move { service.freeze_container(name.as_str()).await });
    world.until("it is being frozen", || world.sim.count(Call::Freeze) == 1).await;
    // One look is ours, the other the event's.
    for _ in 0..2 {
        world.sim.fail_next(Call::Inspect, Error::new(Kind::Unavailable, "as arranged"));
    }
    world.sim.release(Call::Freeze);
    assert_eq!(freeze.await.unwrap().unwrap_err().kind(), Kind::Unavailable);
    world.pass(BEAT).await;
    assert_eq!(world.status(&id), Status::Frozen);
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn a_thaw_that_fails_is_tried_again() {
    let (mut world, id) = frozen("5h").await;
    world.sim.fail_next(Call::Thaw, Error::new(Kind::Internal, "as arranged"));
    // He has sent his request, and waits for the answer.
    knock(&world, &id, client(), true).await;
    world.pass(BEAT).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_frozen_one_that_cannot_go_on_yet_is_made_and_said_to_be() {
    let (mut world, id) = frozen("5h").await;
    world.sim.fail_next(Call::Thaw, Error::new(Kind::Unavailable, "as arranged"));
    let report = world.set_timeout(&id, "2h").await.unwrap();
    assert_eq!((report.status, report.container.idle_timeout), (Status::Frozen, Timeout::parse("2h").unwrap()));
    world.pass(BEAT).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_leaves_nothing_frozen_that_it_was_about_to_stop() {
    let mut world = seeing().await;
    let id = create(&world, "20m", &[]).await;
    world.pass(minutes(20) - BEAT).await;
    // Somebody has just connected, and it is not known yet what for.
    world.gap(BEAT);
    world.eyes.moves(&id, port(&world, &id), client());
    let service = world.service();
    drop(service.sweep());
    world.settle().await;
    assert_eq!(world.status(&id), Status::Stopping);
    service.close(Duration::from_secs(5)).await;
    assert_eq!(world.seen(&id).await.unwrap().state, EngineState::Running, "nobody would notice what he sends");
}

#[tokio::test(start_paused = true)]
async fn who_came_while_the_server_was_away_is_let_in_when_it_is_back() {
    let mut world = seeing().await;
    let id = create(&world, "never", &[("freeze_after", "5m")]).await;
    world.pass(minutes(5) + SWEEP).await;
    assert_eq!(world.status(&id), Status::Frozen);
    let port = port(&world, &id);
    world.crash();
    world.eyes.arrives(&id, port, client());
    world.start().await;
    world.pass(BEAT * 2).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn what_others_froze_is_left_alone_and_what_people_freeze_thaws() {
    let mut world = seeing().await;
    let (theirs, ours) = (create(&world, "10m", &[]).await, create(&world, "10m", &[]).await);
    world.sim.freeze_behind(&world.engine_id(&theirs).await.unwrap());
    world.settle().await;
    let frozen = world.service().freeze_container(ours.as_str()).await.unwrap();
    assert_eq!((frozen.status, world.status(&theirs)), (Status::Frozen, Status::Frozen));
    knock(&world, &theirs, client(), true).await;
    knock(&world, &ours, client(), true).await;
    assert_eq!((world.status(&ours), world.status(&theirs)), (Status::Running, Status::Frozen));
    assert_eq!(world.service().activity(ours.as_str()).unwrap().false_freezes, 0, "a person's wish is no mistake");
    world.service().freeze_container(ours.as_str()).await.unwrap();
    world.pass(minutes(60)).await;
    assert_eq!((world.status(&ours), world.status(&theirs)), (Status::Stopped, Status::Frozen));
    let refused = world.service().freeze_container(ours.as_str()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    world.service().freeze_container(theirs.as_str()).await.unwrap();
    knock(&world, &theirs, client(), true).await;
    assert_eq!(world.status(&theirs), Status::Running, "taken over by whoever asked for it");
}

#[tokio::test(start_paused = true)]
async fn one_who_knocks_in_vain_is_heard_no_more_but_a_user_is() {
    let mut world = seeing().await;
    let port = 22;
    world.sim.add_image("ssh", Image { exposed: vec![(port, Protocol::Tcp)], ..Image::default() });
    let id = create_of(&world, "ssh", "never", &[("freeze_after", "10m")]).await;
    // Guesses at the SSH server: each over within seconds, without a login, and the next one right after it.
    for guess in 0..24_u16 {
        let from = SocketAddr::from(([203, 0, 113, 5], 50_000 + guess));
        world.eyes.moves(&id, port, from);
        world.pass(BEAT).await;
        world.eyes.ends(&id, port, from);
    }
    world.pass(minutes(6) + SWEEP).await;
    let guesser = SocketAddr::from(([203, 0, 113, 5], 60_000));
    assert_eq!(world.status(&id), Status::Frozen, "{:?}", world.service().activity(id.as_str()));
    knock(&world, &id, guesser, true).await;
    assert_eq!(world.status(&id), Status::Frozen);
    assert!(history(&world, &id).iter().any(|what| matches!(what, What::WakeRefused { .. })));
    world.eyes.arrives(&id, port, guesser);
    world.pass(BEAT).await;
    assert_eq!(world.status(&id), Status::Frozen, "what he sends waits there to be seen, too");
    knock(&world, &id, client(), true).await;
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn those_who_come_through_a_proxy_are_not_taken_for_one() {
    let mut world = seeing().await;
    let id = create(&world, "never", &[("freeze_after", "10m")]).await;
    let gateway = world.settings.network.gateway();
    // Short requests of many, all of which come from the gateway.
    for request in 0..40_u16 {
        while world.status(&id) != Status::Frozen {
            world.pass(SWEEP).await;
        }
        let from = SocketAddr::from((gateway, 50_000 + request));
        world.eyes.moves(&id, port(&world, &id), from);
        knock(&world, &id, from, true).await;
        assert_eq!(world.status(&id), Status::Running, "request {request}");
        world.eyes.ends(&id, port(&world, &id), from);
        world.beat().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_outranks_what_is_reported_unless_the_image_has_a_meter() {
    let mut world = seeing().await;
    let forgotten = create(&world, "10m", &[]).await;
    let metered = create(&world, "10m", &[("evidence", "connections=on")]).await;
    let used = create(&world, "10m", &[]).await;
    for id in [&forgotten, &metered, &used] {
        world.connect(id, 1);
        world.eyes.moves(id, port(&world, id), client());
    }
    for _ in 0..20 {
        world.pass(minutes(1)).await;
        world.eyes.moves(&used, port(&world, &used), client());
    }
    assert_eq!(world.status(&forgotten), Status::Stopped, "nothing has moved");
    assert_eq!((world.status(&metered), world.status(&used)), (Status::Running, Status::Running));
    let activity = world.service().activity(used.as_str()).unwrap();
    assert!(activity.seen);
    let counts = |sign| activity.evidence.iter().find(|seen| seen.sign == sign).unwrap().counts;
    assert!(counts(Sign::Traffic) && !counts(Sign::Connections));
}

#[tokio::test(start_paused = true)]
async fn work_and_keys_keep_it_up_and_sleep_does_not() {
    let mut world = seeing().await;
    let (works, sleeps, typed) =
        (create(&world, "10m", &[]).await, create(&world, "10m", &[]).await, create(&world, "10m", &[]).await);
    let deaf = create(&world, "10m", &[("evidence", "processor=off")]).await;
    world.eyes.works(&works, 800);
    world.eyes.works(&deaf, 800);
    world.eyes.works(&sleeps, 10);
    for _ in 0..30 {
        world.eyes.inside(&typed, |inside, now| inside.typed = Some(now));
        world.pass(minutes(1)).await;
    }
    let statuses = [&works, &typed, &sleeps, &deaf].map(|id| world.status(id));
    assert_eq!(statuses, [Status::Running, Status::Running, Status::Stopped, Status::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn eyes_that_fail_stop_nobody_and_then_the_reports_count() {
    let mut world = seeing().await;
    let [busy, unused, mute, asleep] = [1, 2, 3, 4].map(|_| create(&world, "10m", &[]));
    let (busy, unused, mute, asleep) = (busy.await, unused.await, mute.await, asleep.await);
    world.connect(&busy, 1);
    world.connect(&unused, 0);
    world.order_stop(&asleep).await.unwrap();
    world.pass(minutes(9)).await;
    world.eyes.fail(true);
    world.pass(minutes(9)).await;
    assert_eq!([&busy, &unused, &mute].map(|id| world.status(id)), [Status::Running; 3], "fresh grace");
    world.order_start(&asleep).await.unwrap();
    world.pass(minutes(20)).await;
    let all = [&busy, &unused, &mute, &asleep];
    let expected = [Status::Running, Status::Stopped, Status::Running, Status::Running];
    assert_eq!(all.map(|id| world.status(id)), expected, "nobody knows what goes on where nothing is reported");
    let activity = world.service().activity(mute.as_str()).unwrap();
    assert!(!activity.seen && activity.reason.contains("does not report"), "{}", activity.reason);
    let checks = world.service().health().await;
    assert!(checks.iter().any(|check| check.part == "sight" && check.problem.is_some()), "{checks:?}");
    world.eyes.fail(false);
    world.pass(minutes(12)).await;
    assert_eq!(all.map(|id| world.status(id)), [Status::Stopped; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_whoever_has_just_connected() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[]).await;
    world.pass(minutes(10) - BEAT).await;
    world.eyes.moves(&id, port(&world, &id), client());
    let stopping = Arc::clone(&world.service());
    world.gap(BEAT);
    stopping.look_into_all().await;
    let sweep = tokio::spawn(async move { stopping.sweep().await });
    for _ in 0..40 {
        world.gap(Duration::from_secs(1));
        world.service().beat();
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.eyes.moves(&id, port(&world, &id), client());
    }
    sweep.await.unwrap();
    assert_eq!(world.status(&id), Status::Running);
    assert_eq!(world.sim.count(Call::Stop), 0);
    assert!(world.kernel.asleep().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_while_it_is_about_to_stop_is_not_cut_off() {
    let mut world = seeing().await;
    let running = create(&world, "10m", &[]).await;
    let frozen = create(&world, "10m", &[("freeze_after", "2m")]).await;
    // One connects just before its ports lead to the door, one sends something to what is frozen.
    let (eyes, service, here) = (Arc::clone(&world.eyes), world.service(), running.clone());
    let port = port(&world, &running);
    let address = world.report(&frozen).container.address.unwrap();
    world.kernel.on_change(move |asleep| {
        if !asleep.is_empty() {
            eyes.moves(&here, port, client());
            service.heed_knock(Knock { client: client(), address, port, data: true });
        }
    });
    let kept = |world: &World, id| history(world, id).contains(&What::Kept);
    while !kept(&world, &running) || !kept(&world, &frozen) {
        world.pass(BEAT).await;
        assert_eq!(world.sim.count(Call::Stop), 0);
    }
    assert_eq!((world.status(&running), world.status(&frozen)), (Status::Running, Status::Running));
    assert!(world.kernel.asleep().is_empty());
    // He goes, and so does it.
    world.kernel.on_change(|_| ());
    world.eyes.ends(&running, port, client());
    world.pass(minutes(3)).await;
    assert_eq!((world.status(&running), world.status(&frozen)), (Status::Stopped, Status::Stopped));
}

#[tokio::test(start_paused = true)]
async fn it_is_halted_for_the_last_look_and_goes_on_if_that_finds_somebody() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[]).await;
    world.eyes.moves(&id, port(&world, &id), client());
    world.pass(minutes(9)).await;
    let (eyes, here) = (Arc::clone(&world.eyes), id.clone());
    let port = port(&world, &id);
    // He types at the very moment when new connections are sent to the door.
    world.kernel.on_change(move |asleep| {
        if !asleep.is_empty() {
            eyes.moves(&here, port, client());
        }
    });
    world.pass(minutes(3)).await;
    assert_eq!(world.status(&id), Status::Running);
    assert_eq!((world.sim.count(Call::Stop), world.sim.count(Call::Freeze)), (0, 1));
    assert_eq!(world.seen(&id).await.unwrap().state, EngineState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_leaves_nothing_halted() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[]).await;
    for _ in 0..2 {
        world.sim.fail_next(Call::Stop, Error::new(Kind::Internal, "as arranged"));
    }
    while world.sim.count(Call::Stop) == 0 {
        world.pass(BEAT).await;
    }
    assert_eq!(world.seen(&id).await.unwrap().state, EngineState::Running);
    world.pass(minutes(2)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    // Nor does a freeze that fails.
    let id = create(&world, "1h", &[("freeze_after", "10m")]).await;
    world.sim.fail_next(Call::Freeze, Error::new(Kind::Internal, "as arranged"));
    world.pass(minutes(10)).await;
    world.beat().await;
    assert_eq!((world.status(&id), world.report(&id).container.freezing), (Status::Running, None));
    world.pass(minutes(2)).await;
    assert_eq!(world.status(&id), Status::Frozen);
}

#[tokio::test(start_paused = true)]
async fn its_age_ends_it_however_busy_and_it_comes_back_as_it_was() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[("max_age", "2h"), ("warn_before", "5m")]).await;
    for _ in 0..118 {
        world.eyes.moves(&id, port(&world, &id), client());
        world.pass(minutes(1)).await;
    }
    assert_eq!(world.status(&id), Status::Running);
    assert!(
        world.eyes.told().iter().any(|(of, line)| *of == id && line.contains("stopped in")),
        "{:?}",
        world.eyes.told()
    );
    assert_eq!(history(&world, &id).iter().filter(|what| matches!(what, What::Warned { .. })).count(), 1);
    world.pass(minutes(4)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::Age);
    assert!(world.service().activity(id.as_str()).unwrap().wakes);
}

#[tokio::test(start_paused = true)]
async fn a_warning_is_no_use_and_what_is_typed_after_it_is() {
    let mut world = seeing().await;
    let rungs = [("warn_before", "5m")];
    let (left, back) = (create(&world, "10m", &rungs).await, create(&world, "10m", &rungs).await);
    for id in [&left, &back] {
        world.eyes.moves(id, port(&world, id), client());
    }
    world.pass(minutes(7)).await;
    assert_eq!(world.eyes.told().len(), 2);
    world.eyes.moves(&back, port(&world, &back), client());
    world.pass(minutes(5)).await;
    assert_eq!((world.status(&left), world.status(&back)), (Status::Stopped, Status::Running));
    assert_eq!(history(&world, &left).iter().filter(|what| matches!(what, What::Warned { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_warned_of_what_does_not_come() {
    let mut world = seeing().await;
    // At noon, and again the hour after.
    let table = "0 12,13 * * * for 1h";
    let kept = create(&world, "10m", &[("warn_before", "5m"), ("keep_awake", table)]).await;
    let frozen = create(&world, "30m", &[("warn_before", "5m"), ("freeze_after", "10m")]).await;
    world.pass(minutes(40)).await;
    assert_eq!((world.status(&kept), world.status(&frozen)), (Status::Running, Status::Stopped));
    assert_eq!(world.eyes.told(), [], "nor is anybody told who cannot read it");
    let warned = |id| history(&world, id).iter().filter(|what| matches!(what, What::Warned { .. })).count();
    assert_eq!((warned(&kept), warned(&frozen)), (0, 1));
    let stops = world.report(&kept).stops_at.unwrap();
    assert_eq!((stops.hour(), stops.minute()), (14, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_deleted_in_the_end_and_not_by_a_clock_that_is_wrong() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[("delete_after", "7d")]).await;
    world.pass(minutes(12)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    world.jump(time::Duration::days(400));
    world.pass(minutes(30)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    world.crash();
    world.jump(time::Duration::days(-400));
    world.start().await;
    world.pass(minutes(7 * 24 * 60 - 60)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    world.pass(minutes(120)).await;
    assert_eq!(world.find(&id).unwrap_err().kind(), Kind::NotFound);
    assert!(world.engine_id(&id).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn extending_and_timetables_keep_it_up() {
    let mut world = seeing().await;
    let id = create(&world, "10m", &[]).await;
    let until = world.service().extend_container(id.as_str(), minutes(60)).await.unwrap().stops_at.unwrap();
    assert_eq!(until - world.now(), time::Duration::minutes(70));
    world.pass(minutes(69)).await;
    assert_eq!(world.status(&id), Status::Running);
    world.restart().await;
    assert!(world.report(&id).container.kept_until.is_some());
    world.pass(minutes(12)).await;
    assert_eq!(world.status(&id), Status::Stopped);
    let error = world.service().extend_container(id.as_str(), minutes(60 * 25)).await.unwrap_err();
    assert!(error.message().contains("1d"), "{error:?}");

    // It is noon and some; classes are from one to three.
    let id = create(&world, "10m", &[("keep_awake", "0 13 * * * for 6h"), ("freeze_after", "5m")]).await;
    let noon = world.now().replace_time(time::macros::time!(12:58));
    world.jump(noon - world.now());
    world.service().beat();
    world.pass(minutes(30)).await;
    assert_eq!(world.status(&id), Status::Running);
    let stops = world.report(&id).stops_at.unwrap();
    assert_eq!(stops.time(), time::macros::time!(19:00));
    world.pass(minutes(6 * 60)).await;
    assert_eq!(world.status(&id), Status::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_nearest_wins_of_container_image_and_server() {
    let mut world = World::with(|settings| {
        let mut rungs = Rungs::default();
        rungs.set("freeze_after", "20m").unwrap();
        settings.rungs = rungs;
    })
    .await;
    world.eyes.open();
    let labels = [("spindown.freeze_after", "30m"), ("spindown.max_age", "soon")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    world.sim.add_image("calm", Image { labels, ..sandbox() });
    let own = create(&world, "5h", &[("freeze_after", "10m")]).await;
    let (servers, images) = (create(&world, "5h", &[]).await, create_of(&world, "calm", "5h", &[]).await);
    let statuses = |world: &World| [&own, &servers, &images].map(|id| world.status(id));
    world.pass(minutes(10) + SWEEP).await;
    assert_eq!(statuses(&world), [Status::Frozen, Status::Running, Status::Running]);
    world.pass(minutes(10)).await;
    assert_eq!(statuses(&world), [Status::Frozen, Status::Frozen, Status::Running]);
    world.pass(minutes(10)).await;
    assert_eq!(statuses(&world), [Status::Frozen; 3]);
}
