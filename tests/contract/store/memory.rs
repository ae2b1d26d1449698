//! The store in memory: what the simulation stands on keeps the same contract as what users stand on.

use std::sync::Arc;

use super::Fixture;
use crate::support::memory::MemoryStore;

async fn fresh() -> Fixture {
    Fixture { stores: vec![Arc::new(MemoryStore::default())], _keep: Box::new(()) }
}

every_case!(fresh);
