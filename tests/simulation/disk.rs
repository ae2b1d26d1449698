//! The disk: measured one by one, and a watermark below which nothing new is made.

use spindown::{
    engine::sim::Call,
    model::{ContainerId, DiskSpace, Error, Kind, Name},
    service::container::NewContainer,
};

use crate::support::world::{World, minutes, wanted};

const GIB: u64 = 1 << 30;

async fn create(world: &World, name: &str, bytes: u64) -> ContainerId {
    let named = NewContainer { name: Some(Name::parse(name).unwrap()), ..wanted() };
    let id = world.service().create_container("admin", named, None).await.unwrap().container.id;
    world.sim.fill(&world.engine_id(&id).await.unwrap(), bytes).unwrap();
    id
}

/// Measures all that are due, and answers how many that were.
async fn measure(world: &World) -> usize {
    let before = world.sim.count(Call::DiskUse);
    while world.service().measure_next().await.is_some() {}
    world.sim.count(Call::DiskUse) - before
}

fn free(bytes: u64) -> Option<DiskSpace> {
    Some(DiskSpace { free: bytes, total: 100 * GIB })
}

#[tokio::test(start_paused = true)]
async fn each_is_measured_once_in_a_while() {
    let mut world = World::new().await;
    let (small, large) = (create(&world, "small", 5).await, create(&world, "large", 7 * GIB).await);
    assert_eq!(world.report(&large).disk, None);
    assert_eq!(measure(&world).await, 2);
    assert_eq!(world.report(&large).disk.unwrap().bytes, 7 * GIB);
    let report = world.service().disk().await.unwrap();
    assert_eq!((report.containers, report.measured, report.bytes), (2, 2, 7 * GIB + 5));
    assert_eq!(report.largest.iter().map(|(c, _)| &c.id).collect::<Vec<_>>(), [&large, &small]);
    assert_eq!(measure(&world).await, 0);
    world.pass(minutes(10)).await;
    assert_eq!(measure(&world).await, 2);
    // What is down writes nothing: it is measured once more, and then not again.
    world.order_stop(&small).await.unwrap();
    world.pass(minutes(10)).await;
    assert_eq!(measure(&world).await, 2);
    world.pass(minutes(10)).await;
    assert_eq!(measure(&world).await, 1);
    // One that is gone is forgotten.
    world.remove(&large).await.unwrap();
    assert_eq!(world.service().disk().await.unwrap().bytes, 5);
}

#[tokio::test(start_paused = true)]
async fn a_measurement_that_fails_keeps_the_last_and_holds_nobody_up() {
    let mut world = World::new().await;
    let (one, other) = (create(&world, "one", 5).await, create(&world, "other", 7).await);
    measure(&world).await;
    world.pass(minutes(10)).await;
    world.sim.fill(&world.engine_id(&other).await.unwrap(), 9).unwrap();
    world.sim.fail_next(Call::DiskUse, Error::unavailable("as arranged"));
    assert_eq!(measure(&world).await, 2);
    let mut bytes = [&one, &other].map(|id| world.report(id).disk.unwrap().bytes);
    bytes.sort_unstable();
    assert!([[5, 7], [5, 9]].contains(&bytes), "{bytes:?}");
    world.sim.go_down();
    world.settle().await;
    world.pass(minutes(10)).await;
    assert_eq!(measure(&world).await, 0, "an engine that is away is left alone");
}

#[tokio::test(start_paused = true)]
async fn below_the_watermark_nothing_is_made_and_what_is_there_starts() {
    let world = World::new().await;
    let ids = [create(&world, "ada", 3 * GIB).await, create(&world, "bob", 5 << 20).await];
    measure(&world).await;
    world.order_stop(&ids[0]).await.unwrap();
    world.settle().await;
    let problem =
        |checks: Vec<spindown::service::health::Check>| checks.into_iter().find(|c| c.part == "disk").unwrap().problem;
    world.sim.set_disk(free(GIB));
    world.service().create_container("admin", wanted(), None).await.unwrap();
    assert_eq!(problem(world.service().health().await), None);
    world.sim.set_disk(free(GIB - 1));
    let (made, claims) = (world.sim.count(Call::Create), world.store.count(crate::support::memory::Access::Claim));
    let refused = world.service().create_container("admin", wanted(), None).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Exhausted);
    for part in ["1.0 GiB", "ada (3.0 GiB), bob (5.0 MiB)", "limits.disk_reserve"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    assert_eq!(
        (world.sim.count(Call::Create), world.store.count(crate::support::memory::Access::Claim)),
        (made, claims)
    );
    world.order_start(&ids[0]).await.unwrap();
    assert!(world.runs(&ids[0]).await);
    let mut world = world;
    world.pass(minutes(1)).await;
    assert!(problem(world.service().health().await).unwrap().contains("nearly full"));
    // Where it cannot be told, nothing is refused.
    world.sim.set_disk(None);
    world.service().create_container("admin", wanted(), None).await.unwrap();
}
