//! Events: each thing that happens is told once, in order, and numbered on over a restart.

use std::time::Duration;

use spindown::{
    engine::sim::Call,
    model::{ContainerId, Event, StoppedBy, What},
    service::event::{Page, Reader},
};

use crate::support::world::{World, minutes};

/// What a reader gets without waiting.
async fn read(world: &World, reader: &mut Reader) -> Vec<Page> {
    let (service, mut pages) = (world.service(), Vec::new());
    while let Ok(Some(page)) = tokio::time::timeout(Duration::from_millis(1), service.next_events(reader)).await {
        pages.push(page);
    }
    pages
}

async fn events(world: &World, reader: &mut Reader) -> Vec<Event> {
    let events = read(world, reader).await.into_iter().flat_map(|page| match page {
        Page::Events(events) => events,
        Page::Gap => panic!("a gap"),
    });
    events.collect()
}

/// What happened since, with the container it is about checked.
async fn told(world: &World, reader: &mut Reader, id: &ContainerId) -> Vec<What> {
    let events = events(world, reader).await;
    assert!(events.windows(2).all(|pair| pair[0].id + 1 == pair[1].id), "{events:?}");
    assert!(events.iter().all(|e| e.container.as_ref().is_none_or(|(of, _)| of == id)), "{events:?}");
    events.into_iter().map(|event| event.what).collect()
}

#[tokio::test(start_paused = true)]
async fn a_containers_life_is_told() {
    let mut world = World::new().await;
    let mut reader = world.service().read_events(None);
    let id = world.create("10m").await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::Created, What::Started]);

    world.pass(minutes(11)).await;
    let idle = What::Stopped { by: Some(StoppedBy::Idle), exit_code: Some(143) };
    assert_eq!(told(&world, &mut reader, &id).await, [What::Stopping(StoppedBy::Idle), idle]);

    world.order_start(&id).await.unwrap();
    assert_eq!(told(&world, &mut reader, &id).await, [What::Started]);

    world.kill_behind(&id).await;
    world.settle().await;
    let by_hand = What::Stopped { by: Some(StoppedBy::User), exit_code: Some(143) };
    assert_eq!(told(&world, &mut reader, &id).await, [by_hand]);

    world.start_behind(&id).await;
    world.settle().await;
    world.order_stop(&id).await.unwrap();
    world.settle().await;
    let stopped = What::Stopped { by: Some(StoppedBy::User), exit_code: Some(143) };
    assert_eq!(told(&world, &mut reader, &id).await, [What::Started, What::Stopping(StoppedBy::User), stopped]);

    world.remove(&id).await.unwrap();
    world.settle().await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::Removed]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_taken_back_is_told() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    world.sim.fail_next(Call::Stop, spindown::model::Error::unavailable("busy"));
    world.pass(minutes(10)).await;
    let mut reader = world.service().read_events(None);
    world.check_in(&id, 1).unwrap();
    world.pass(minutes(1)).await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::Kept]);
}

#[tokio::test(start_paused = true)]
async fn lost_check_ins_are_told_once() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    let mute = world.create("never").await;
    world.connect(&id, 0);
    world.pass(minutes(5)).await;
    let mut reader = world.service().read_events(None);
    world.pass(minutes(10)).await;
    assert_eq!(told(&world, &mut reader, &id).await, []);
    world.disconnect(&id);
    world.pass(minutes(20)).await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::CheckInLost]);
    world.connect(&id, 1);
    world.pass(minutes(2)).await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::CheckInBack]);
    // One that never reported, as an image without that does, is not told of.
    assert!(world.find(&mute).is_ok());
    // Nor is one told of that fell silent because it was stopped.
    world.disconnect(&id);
    world.order_stop(&id).await.unwrap();
    world.pass(minutes(20)).await;
    let stopped = What::Stopped { by: Some(StoppedBy::User), exit_code: Some(143) };
    assert_eq!(told(&world, &mut reader, &id).await, [What::Stopping(StoppedBy::User), stopped]);
}

#[tokio::test(start_paused = true)]
async fn the_host_going_away_is_told_and_what_happened_meanwhile() {
    let mut world = World::new().await;
    let id = world.create("never").await;
    let mut reader = world.service().read_events(None);
    world.sim.go_down();
    world.pass(minutes(1)).await;
    assert_eq!(told(&world, &mut reader, &id).await, [What::HostDown]);
    world.sim.come_back(true);
    world.pass(minutes(1)).await;
    let told = told(&world, &mut reader, &id).await;
    assert_eq!(told.last(), Some(&What::HostUp), "{told:?}");
    let after = world.status(&id);
    let stopped = What::Stopped { by: Some(StoppedBy::Host), exit_code: Some(143) };
    assert_eq!(told[0], stopped, "{told:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_tells_nothing_anew_and_numbers_go_on() {
    let mut world = World::new().await;
    let mut reader = world.service().read_events(None);
    let id = world.create("never").await;
    let before = events(&world, &mut reader).await;
    let last = before.last().unwrap().id;
    world.gap(Duration::from_secs(1));
    world.restart().await;
    // Nobody knows whether something was missed.
    let mut reader = world.service().read_events(Some(last));
    assert_eq!(read(&world, &mut reader).await, [Page::Gap]);
    world.order_stop(&id).await.unwrap();
    world.settle().await;
    let after = events(&world, &mut reader).await;
    assert_eq!(after[0].what, What::Stopping(StoppedBy::User));
    assert!(after[0].id > last);
    // Who asks from what has been seen on gets the rest, and no gap.
    let mut reader = world.service().read_events(Some(after[0].id));
    assert_eq!(events(&world, &mut reader).await, after[1..]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_learns_that_he_missed_something_and_reads_on() {
    let world = World::new().await;
    let mut reader = world.service().read_events(None);
    let id = world.create("never").await;
    for _ in 0..2_100 {
        world.kill_behind(&id).await;
        world.settle().await;
        world.start_behind(&id).await;
        world.settle().await;
    }
    let pages = read(&world, &mut reader).await;
    assert_eq!(pages[0], Page::Gap);
    let events: usize = pages[1..]
        .iter()
        .map(|page| match page {
            Page::Events(events) => events.len(),
            Page::Gap => panic!("a second gap"),
        })
        .sum();
    assert_eq!(events, 4_096);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_does_not_come_is_seen_within_two_intervals() {
    let mut world = World::new().await;
    let problem = async |world: &World| {
        let checks = world.service().health().await;
        checks.into_iter().find(|check| check.part == "scheduler").unwrap().problem
    };
    world.pass(minutes(10)).await;
    assert_eq!(problem(&world).await, None);
    // The timer is dead from here on.
    world.gap(Duration::from_secs(119));
    assert_eq!(problem(&world).await, None, "one sweep may be on its way");
    world.gap(Duration::from_secs(61));
    assert_eq!(problem(&world).await.unwrap(), "the last sweep was 180 s ago");
    world.sweep().await;
    // Health is looked at once a second at most.
    world.gap(Duration::from_secs(1));
    assert_eq!(problem(&world).await, None);
}
