//! Several servers over one engine and one store.

use spindown::{
    engine::sim::Call,
    model::{Error, Status},
    service::container::Filter,
};

use crate::support::world::{BEAT, SWEEP, World, minutes};

#[tokio::test(start_paused = true)]
async fn what_one_server_removes_is_gone_for_the_other() {
    let mut world = World::new().await;
    let other = world.another();
    let (gone, kept) = (world.create("never").await, world.create("never").await);
    world.settle().await;
    assert_eq!(other.spindown.list_containers(&Filter::default()).unwrap().len(), 2);
    world.remove(&gone).await.unwrap();
    world.pass(minutes(1)).await;
    let left = other.spindown.list_containers(&Filter::default()).unwrap();
    assert_eq!(left.iter().map(|r| (&r.container.id, r.status)).collect::<Vec<_>>(), [(&kept, Status::Running)]);
    assert_eq!(world.store.recorded(), [kept]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_being_made_is_not_adopted_over() {
    let mut world = World::new().await;
    let other = world.another();
    world.settle().await;
    for call in [Call::Create, Call::Start, Call::Inspect] {
        world.sim.hold(call);
        let service = world.service();
        let wanted = crate::support::world::wanted();
        let create = tokio::spawn(async move { service.create_container("admin", wanted, None).await });
        world.quiet().await;
        world.sim.release(call);
        let made = create.await.unwrap().unwrap();
        assert_eq!(made.status, Status::Running, "{call:?}");
    }
    world.pass(minutes(1)).await;
    assert_eq!(other.spindown.list_containers(&Filter::default()).unwrap().len(), 3);
    assert_eq!(world.store.recorded().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_other_server_saw_keeps_a_container() {
    // Also when the stop has been decided and is being tried again.
    for failing in [false, true] {
        let mut world = World::new().await;
        let other = world.another();
        let id = world.create("10m").await;
        world.pass(minutes(10) - BEAT).await;
        if failing {
            world.sim.fail_next(Call::Stop, Error::unavailable("busy"));
            world.pass(BEAT).await;
            assert_eq!(world.status(&id), Status::Stopping);
        }
        let address = world.report(&id).container.address.unwrap();
        other.spindown.check_in(address.into(), 1).unwrap();
        other.spindown.flush().await;
        let tried = world.sim.count(Call::Stop);
        world.pass(SWEEP).await;
        assert_eq!(world.sim.count(Call::Stop), tried, "{failing}");
        assert_eq!(world.status(&id), Status::Running, "{failing}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_server_changes_the_other_takes_over() {
    let mut world = World::new().await;
    let other = world.another();
    let id = world.create("2h").await;
    world.settle().await;
    let change = spindown::service::container::Change {
        labels: Some([("course".to_owned(), "cs101".to_owned())].into()),
        ..Default::default()
    };
    other.spindown.update_container(id.as_str(), change).await.unwrap();
    world.set_timeout(&id, "1h").await.unwrap();
    world.pass(minutes(1)).await;
    for server in [world.service(), other.spindown.clone()] {
        let container = server.find_container(id.as_str()).unwrap().container;
        assert_eq!((container.labels.len(), container.idle_timeout.to_string().as_str()), (1, "3600"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_both_servers_set_of_a_ladder_holds() {
    let mut world = World::new().await;
    let other = world.another();
    let id = world.create("2h").await;
    world.settle().await;
    // Neither has seen what the other did.
    for (server, name, text) in [(&other.spindown, "max_age", "1d"), (&world.service(), "freeze_after", "10m")] {
        let mut change = spindown::service::container::Change { rungs_to_set: vec![name], ..Default::default() };
        change.rungs.set(name, text).unwrap();
        server.update_container(id.as_str(), change).await.unwrap();
    }
    world.pass(minutes(1)).await;
    for server in [world.service(), other.spindown.clone()] {
        let rungs = server.find_container(id.as_str()).unwrap().container.rungs.texts();
        assert_eq!(rungs, [("freeze_after", "600".to_owned()), ("max_age", "86400".to_owned())].into());
    }
}
