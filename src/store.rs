//! The store: what Docker cannot hold. Traits by noun; `embedded` keeps it in a file, `redis` shares it between servers.
//! One contract suite holds for both. Records are versioned in `record`; `backup` carries all of them from one store to
//! another.
//!
//! A write that ends in `Unavailable` may have been done all the same: read before repeating it.

pub mod backup;
pub mod embedded;
pub mod metered;
mod record;
pub mod redis;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::model::{Activity, Claim, Container, ContainerId, HostName, Result};

/// What is kept of containers. What a call wrote is safe when it returns.
#[async_trait]
pub trait ContainerStore: Send + Sync {
    /// All of them, in any order.
    async fn containers(&self) -> Result<Vec<Container>>;

    /// One of them.
    async fn container(&self, id: &ContainerId) -> Result<Option<Container>>;

    /// Writes one and answers its new version, one above the one given. `Conflict` if what is stored has another version
    /// than the one given (0: nothing may be stored).
    async fn put_container(&self, container: &Container) -> Result<u64>;

    /// Forgets one, with its activity. Forgetting what is not there is fine.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;
}

/// Signs of use.
#[async_trait]
pub trait ActivityStore: Send + Sync {
    /// What is remembered of all containers.
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>>;

    /// What is remembered of one.
    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>>;

    /// Merges these into what is remembered (see [`Activity::merge`]), all or none.
    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()>;
}

/// Who holds which port and address of a host.
#[async_trait]
pub trait ClaimStore: Send + Sync {
    /// Claims all of `claims` for `holder`, or none: then it answers the first that somebody else holds. What the holder
    /// holds already is fine.
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>>;

    /// All claims on the host.
    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>>;

    /// Gives back all that `holder` holds there.
    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()>;
}

/// One attempt at a create that carries an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The container it makes.
    pub id: ContainerId,
    /// A digest of what was asked for: the same key with another request is refused.
    pub digest: String,
    /// When it began.
    pub at: OffsetDateTime,
}

/// Creates that may be repeated.
#[async_trait]
pub trait AttemptStore: Send + Sync {
    /// Records `attempt` under `key` unless one made at or after `valid_from` is there, which it then answers.
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>>;

    /// Forgets the attempt under `key` if it is the one that makes `id`.
    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()>;
}

/// The whole store.
#[async_trait]
pub trait Store: ContainerStore + ActivityStore + ClaimStore + AttemptStore {
    /// Whether it answers.
    async fn ping(&self) -> Result<()>;

    /// Whether other servers may be at work over it at the same time.
    fn is_shared(&self) -> bool;
}
