//! What tests do to the simulated engine, and what comes of it.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use spindown::{
    clock::{Clock, TestClock},
    engine::{
        Engine, Happening,
        sim::{Call, Sim},
    },
    model::{Blueprint, ContainerId, EngineState, Error, Image, Kind, Port},
};
use time::OffsetDateTime;

use super::{
    GRACE, fails, made,
    rig::{PLAIN, Rig, SimRig},
    started,
};

#[tokio::test]
async fn it_goes_down_and_comes_back_as_an_engine_that_was_restarted() {
    let clock = Arc::new(TestClock::new(OffsetDateTime::UNIX_EPOCH));
    let rig = SimRig { sim: Sim::new(clock.clone()) };
    rig.sim.add_image(PLAIN, Image::default());
    rig.sim.ensure_network(&rig.network()).await.unwrap();
    let blueprint = rig.plain(0);
    let id = rig.sim.create(&blueprint).await.unwrap();
    rig.sim.start(&id).await.unwrap();
    let before = rig.sim.started_at().await.unwrap();
    let mut events = rig.sim.events().await.unwrap();
    clock.advance(Duration::from_secs(60));
    rig.sim.go_down();
    assert_eq!(events.next().await, None);
    let down = clock.now().at;
    for outcome in [rig.sim.ping().await, rig.sim.start(&id).await, rig.sim.events().await.map(drop)] {
        fails(outcome, Kind::Unavailable, "engine");
    }
    clock.advance(Duration::from_secs(60));
    rig.sim.come_back(true);
    let seen = rig.sim.inspect(&id).await.unwrap();
    assert_eq!((seen.state, seen.exit_code, seen.finished_at), (EngineState::Exited, Some(143), Some(down)));
    assert_eq!(rig.sim.started_at().await.unwrap(), Some(clock.now().at));
    assert!(rig.sim.started_at().await.unwrap() > before);
    rig.sim.start(&id).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_ends_no_container() {
    let rig = SimRig::new().await;
    let (id, before) = (started(&rig, 0).await, rig.sim.started_at().await.unwrap());
    rig.sim.go_down();
    rig.sim.come_back(false);
    assert_eq!(rig.sim.inspect(&id).await.unwrap().state, EngineState::Running);
    assert_eq!(rig.sim.started_at().await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_held_up_fails_when_its_deadline_passes() {
    let rig = SimRig::new().await;
    let id = made(&rig, 0).await;
    rig.sim.hang();
    fails(rig.sim.inspect(&id).await, Kind::Unavailable, "engine");
    let (outcome, ()) = futures::join!(rig.sim.inspect(&id), async { rig.sim.resume() });
    outcome.unwrap();
    rig.sim.hold(Call::Start);
    rig.sim.ping().await.unwrap();
    fails(rig.sim.start(&id).await, Kind::Unavailable, "engine");
    assert_eq!(rig.sim.inspect(&id).await.unwrap().state, EngineState::Created);
    rig.sim.release(Call::Start);
    rig.sim.start(&id).await.unwrap();
    assert_eq!(rig.sim.count(Call::Start), 2);
}

#[tokio::test]
async fn a_failure_is_as_arranged_and_happens_once() {
    let rig = SimRig::new().await;
    let id = started(&rig, 0).await;
    rig.sim.fail_next(Call::Stop, Error::new(Kind::Internal, "as arranged"));
    fails(rig.sim.stop(&id, GRACE).await, Kind::Internal, "as arranged");
    assert_eq!(rig.sim.inspect(&id).await.unwrap().state, EngineState::Running);
    rig.sim.stop(&id, GRACE).await.unwrap();
}

#[tokio::test]
async fn events_get_lost_when_told_to() {
    let rig = SimRig::new().await;
    let mut events = rig.sim.events().await.unwrap();
    rig.sim.lose_events(true);
    let id = started(&rig, 0).await;
    rig.sim.lose_events(false);
    rig.sim.kill_behind(&id);
    assert_eq!(events.next().await.unwrap().what, Happening::Signalled);
}

#[tokio::test]
async fn it_holds_ten_thousand_containers() {
    let rig = SimRig::new().await;
    let addresses: Vec<_> = rig.network().addresses().take(10_000).collect();
    let mut ids = Vec::new();
    for (number, address) in addresses.into_iter().enumerate() {
        let ports = vec![Port { host: 20_000 + number as u16, ..rig.blueprint(0).ports[0] }];
        let mut blueprint = Blueprint { address, ports, ..rig.blueprint(0) };
        blueprint.id = ContainerId::from_bits(number as u128);
        blueprint.labels.insert("spindown.id".to_owned(), blueprint.id.to_string());
        let id = rig.sim.create(&blueprint).await.unwrap();
        rig.sim.start(&id).await.unwrap();
        ids.push(id);
    }
    for _ in 0..10 {
        assert_eq!(rig.sim.list().await.unwrap().len(), 10_000);
    }
    for id in &ids {
        assert!(rig.sim.inspect(id).await.unwrap().state.is_up());
    }
    rig.sim.go_down();
    rig.sim.come_back(true);
    assert!(rig.sim.list().await.unwrap().iter().all(|c| c.state == EngineState::Exited));
}
