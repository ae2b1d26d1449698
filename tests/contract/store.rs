//! The store: `cases` hold for every adapter, and each adapter adds what is its own.

#[macro_use]
mod cases;
mod embedded;
mod memory;
mod redis;
mod sample;

use std::{any::Any, sync::Arc};

use spindown::{
    clock::{Clock, SystemClock},
    store::{Store, backup::BackupStore},
};

/// A store with all that is asked of one, by servers and by the command line.
pub trait Whole: Store + BackupStore {}

impl<T: Store + BackupStore> Whole for T {}

/// One state, seen through one or more servers' stores.
pub struct Fixture {
    pub stores: Vec<Arc<dyn Whole>>,
    /// What the stores stand on; goes after them.
    pub _keep: Box<dyn Any + Send>,
}

impl Fixture {
    /// The store of the server that the `n`th task talks to.
    pub fn store(&self, n: usize) -> Arc<dyn Whole> {
        Arc::clone(&self.stores[n % self.stores.len()])
    }
}

/// Prints what writes cost, one after the other and side by side.
async fn measure(on: &Fixture) {
    let clock = SystemClock::new();
    let start = clock.now().moment;
    for n in 0..200 {
        on.store(0).put_container(&sample::container(n)).await.unwrap();
    }
    println!("a put: {:?}", clock.now().moment.since(start) / 200);
    let start = clock.now().moment;
    let puts = (0..5_000).map(|n| {
        let store = on.store(0);
        tokio::spawn(async move { store.put_container(&sample::container(1_000 + n)).await.unwrap() })
    });
    futures::future::join_all(puts).await;
    println!("of 5000 puts side by side, each: {:?}", clock.now().moment.since(start) / 5_000);
    let all: Vec<_> = (0..1_000).map(|n| (sample::id(n), sample::activity(0, Some((0, n))))).collect();
    let start = clock.now().moment;
    for _ in 0..10 {
        on.store(0).merge_activities(&all).await.unwrap();
    }
    println!("merging 1000 activities: {:?}", clock.now().moment.since(start) / 10);
    let start = clock.now().moment;
    let read = on.store(0).containers().await.unwrap().len();
    println!("reading {read} containers: {:?}", clock.now().moment.since(start));
}
