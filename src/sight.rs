//! Sight: what the server sees for itself of containers on its own machine. `linux` looks; elsewhere nothing is seen.

pub mod linux;

use async_trait::async_trait;

use crate::model::{ContainerId, Look, Result, Target};

/// Looks into containers from outside. Nothing in them helps with that, or notices.
#[async_trait]
pub trait Sight: Send + Sync {
    /// Whether anything is seen at all: the engine is on this machine, and this process may look.
    fn sees(&self) -> bool;

    /// Looks at each of these, at about the same time. Whoever cannot be looked at, because it has just gone or for any
    /// other reason, has an error: `NotFound` if it is not there any more, else `Unavailable`. Answers within ten seconds.
    async fn look(&self, targets: Vec<Target>) -> Vec<(ContainerId, Result<Look>)>;

    /// Writes a line to every terminal that is open in the container; answers to how many. One that does not take it at
    /// once goes without.
    async fn tell(&self, target: &Target, line: &str) -> Result<usize>;

    /// Gives the memory of a container that is frozen back to the host, as far as the kernel can and as long as it stays
    /// frozen; answers how many bytes that were, `None` where the kernel has no way. One container at a time, so this may
    /// take long.
    async fn reclaim(&self, target: &Target) -> Result<Option<u64>>;
}

/// Where nothing can be seen.
#[derive(Clone, Copy, Debug)]
pub struct NoSight;

#[async_trait]
impl Sight for NoSight {
    fn sees(&self) -> bool {
        false
    }

    async fn look(&self, _targets: Vec<Target>) -> Vec<(ContainerId, Result<Look>)> {
        Vec::new()
    }

    async fn tell(&self, _target: &Target, _line: &str) -> Result<usize> {
        Ok(0)
    }

    async fn reclaim(&self, _target: &Target) -> Result<Option<u64>> {
        Ok(None)
    }
}
