//! Which ports are asleep, in every order of what may happen, and who starts what for whom.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use proptest::{prelude::*, sample::Index};
use spindown::{
    engine::sim::Call,
    model::{ContainerId, Error, Kind, Protocol, Status, StoppedBy, Wake, What},
    service::container::Change,
};

use crate::support::{
    property::stories,
    world::{SWEEP, World, minutes},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn port(world: &World, id: &ContainerId) -> u16 {
    let ports = world.report(id).container.ports;
    ports.iter().find(|port| port.protocol == Protocol::Tcp).unwrap().host
}

/// One that has been stopped for being idle.
async fn asleep(world: &mut World) -> ContainerId {
    let id = world.create("5m").await;
    world.pass(minutes(5) + SWEEP).await;
    assert_eq!(world.report(&id).container.stopped.unwrap().by, StoppedBy::Idle);
    id
}

#[tokio::test(start_paused = true)]
async fn its_ports_are_asleep_before_it_is_stopped() {
    let mut world = World::new().await;
    let id = world.create("5m").await;
    let (sim, engine_id, port) = (Arc::clone(&world.sim), world.engine_id(&id).await.unwrap(), port(&world, &id));
    let seen = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&seen);
    world.kernel.on_change(move |asleep| {
        assert!(asleep.contains(&port) && sim.is_up(&engine_id) && sim.count(Call::Stop) == 0);
        noted.fetch_add(1, Ordering::Relaxed);
    });
    world.pass(minutes(5) + SWEEP).await;
    assert_eq!((world.status(&id), seen.load(Ordering::Relaxed)), (Status::Stopped, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_use_after_that_keeps_it_up_and_gives_its_ports_back() {
    let mut world = World::new().await;
    let id = world.create("5m").await;
    let (service, address) = (world.service(), world.report(&id).container.address.unwrap());
    let once = AtomicUsize::new(0);
    world.kernel.on_change(move |asleep| {
        if !asleep.is_empty() && once.fetch_add(1, Ordering::Relaxed) == 0 {
            service.check_in(address.into(), 1).unwrap();
        }
    });
    world.pass(minutes(5) + SWEEP).await;
    assert!(world.runs(&id).await);
    assert_eq!((world.sim.count(Call::Stop), world.kernel.asleep()), (0, BTreeSet::new()));
}

#[tokio::test(start_paused = true)]
async fn it_is_started_once_for_all_who_come() {
    let mut world = World::new().await;
    let id = asleep(&mut world).await;
    let (service, starts) = (world.service(), world.sim.count(Call::Start));
    assert_eq!(world.kernel.asleep(), BTreeSet::from([port(&world, &id)]));
    let woken = join_all((0..50).map(|_| service.wake(&id, CLIENT))).await;
    assert!(woken.iter().all(Result::is_ok), "{woken:?}");
    assert_eq!(world.sim.count(Call::Start), starts + 1);
    // Nobody has come through yet.
    service.divert().await.unwrap();
    assert_eq!(world.kernel.asleep(), BTreeSet::from([port(&world, &id)]));
    world.pass(minutes(2)).await;
    service.divert().await.unwrap();
    assert_eq!(world.kernel.asleep(), BTreeSet::new(), "nobody is waited for longer than a minute");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_again_later_and_told_once() {
    let mut world = World::new().await;
    let id = asleep(&mut world).await;
    let service = world.service();
    let failure = || Error::conflict("somebody else has the port");
    world.sim.fail_next(Call::Start, failure());
    assert_eq!(service.wake(&id, CLIENT).await.unwrap_err().kind(), Kind::Conflict);
    let starts = world.sim.count(Call::Start);
    for _ in 0..20 {
        let refused = service.wake(&id, CLIENT).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::TooMany, "{refused}");
        service.refuse_wake(&id, CLIENT, &refused);
    }
    assert_eq!(world.sim.count(Call::Start), starts);
    let told = service.activity(id.as_str()).unwrap().history;
    assert_eq!(told.iter().filter(|(_, what)| matches!(what, What::WakeRefused { .. })).count(), 1, "{told:?}");
    world.gap(Duration::from_secs(1));
    service.wake(&id, CLIENT).await.unwrap();
    assert_eq!(world.status(&id), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_turn_does_not_count_against_it() {
    let mut world = World::with(|settings| settings.starts_waiting = 0).await;
    let ids = [asleep(&mut world).await, asleep(&mut world).await];
    let service = world.service();
    world.sim.set_free_memory(Some(0));
    let refused = service.wake(&ids[0], CLIENT).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Exhausted, "{refused}");
    world.sim.set_free_memory(Some(u64::MAX));
    service.wake(&ids[0], CLIENT).await.unwrap();
}

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    Create,
    Pass(u64),
    Wake(Index),
    Start(Index),
    Stop(Index),
    Remove(Index),
    KillBehind(Index),
    StartBehind(Index),
    RemoveBehind(Index),
    End(Index),
    For(Index, Index),
    StartsFail,
    Restart,
    EngineRestart,
    LoseEvents(bool),
}

fn any_event() -> impl Strategy<Value = Event> {
    use Event::*;
    let one = any::<Index>;
    prop_oneof![
        3 => Just(Create),
        6 => (1u64..15).prop_map(Pass),
        6 => one().prop_map(Wake),
        3 => one().prop_map(Start),
        3 => one().prop_map(Stop),
        1 => one().prop_map(Remove),
        2 => one().prop_map(KillBehind),
        2 => one().prop_map(StartBehind),
        1 => one().prop_map(RemoveBehind),
        2 => one().prop_map(End),
        2 => (one(), one()).prop_map(|(which, wake)| For(which, wake)),
        1 => Just(StartsFail),
        1 => Just(Restart),
        1 => Just(EngineRestart),
        1 => any::<bool>().prop_map(LoseEvents),
    ]
}

async fn happen(world: &mut World, event: &Event) {
    let all: Vec<ContainerId> = world.list().into_iter().map(|report| report.container.id).collect();
    let pick = |index: &Index| (!all.is_empty()).then(|| index.get(&all).clone());
    let service = world.service();
    match event {
        Event::Create if all.len() < 4 => drop(world.create("5m").await),
        Event::Create => {}
        Event::Pass(minutes_) => world.pass(minutes(*minutes_)).await,
        Event::StartsFail => world.sim.fail_next(Call::Start, Error::conflict("somebody else has the port")),
        Event::Restart => world.restart().await,
        Event::EngineRestart => {
            world.sim.go_down();
            world.settle().await;
            world.sim.come_back(true);
            world.pass(Duration::from_secs(30)).await;
        }
        Event::LoseEvents(lost) => world.sim.lose_events(*lost),
        Event::Wake(index) | Event::Start(index) | Event::Stop(index) | Event::Remove(index) => {
            let Some(id) = pick(index) else { return };
            let before = world.report(&id);
            match event {
                Event::Wake(_) => {
                    let stopped = before.container.stopped.map(|stop| stop.by);
                    let outcome = service.wake(&id, CLIENT).await;
                    if before.status == Status::Stopped && stopped == Some(StoppedBy::User) {
                        assert!(outcome.is_err() || world.runs(&id).await);
                    }
                }
                Event::Start(_) => drop(world.order_start(&id).await),
                Event::Stop(_) => drop(world.order_stop(&id).await),
                _ => drop(world.remove(&id).await),
            }
        }
        Event::For(index, wake) => {
            let Some(id) = pick(index) else { return };
            let change = Change { wake: Some(*wake.get(&Wake::ALL)), ..Change::default() };
            drop(service.update_container(id.as_str(), change).await);
        }
        Event::KillBehind(index) | Event::StartBehind(index) | Event::RemoveBehind(index) | Event::End(index) => {
            let Some(id) = pick(index) else { return };
            let Some(engine_id) = world.engine_id(&id).await else { return };
            match event {
                Event::KillBehind(_) => world.sim.kill_behind(&engine_id),
                Event::StartBehind(_) => drop(world.sim.start_behind(&engine_id)),
                Event::RemoveBehind(_) => world.sim.remove_behind(&engine_id),
                _ => world.sim.end(&engine_id, 0),
            }
        }
    }
}

/// What is to be asleep: the ports of those that are down and wake, by what the API tells of them.
fn expected(world: &World) -> BTreeSet<u16> {
    let wakes = |by: Option<StoppedBy>, wake: Wake| match wake {
        Wake::Always => by != Some(StoppedBy::User),
        Wake::Idle => !matches!(by, Some(StoppedBy::User | StoppedBy::Own)),
        Wake::Never => false,
    };
    let asleep = world.list().into_iter().filter(|report| {
        report.status == Status::Stopped
            && report.container.removing.is_none()
            && wakes(report.container.stopped.map(|stop| stop.by), report.container.wake)
    });
    asleep
        .flat_map(|report| report.container.ports)
        .filter(|port| port.protocol == Protocol::Tcp)
        .map(|port| port.host)
        .collect()
}

proptest! {
    #![proptest_config(stories(100))]

    /// Whatever has happened: once it has come out, the ports of those that sleep are asleep, and no others.
    #[test]
    fn what_sleeps_is_asleep_and_nothing_else(events in prop::collection::vec(any_event(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for event in &events {
                happen(&mut world, event).await;
            }
            world.sim.lose_events(false);
            world.sim.forgive();
            // The list is compared, and nobody comes through any more.
            world.pass(minutes(3)).await;
            world.service().divert().await.unwrap();
            assert_eq!(world.kernel.asleep(), expected(&world), "{:#?}", world.list());
        });
    }
}
