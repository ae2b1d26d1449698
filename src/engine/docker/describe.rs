//! What an engine says of itself, for the doctor. Looks only.

use time::OffsetDateTime;

use super::{Docker, convert, errors::Task, network};
use crate::{engine::NetworkSpec, model::Result};

/// What an engine says of itself, as far as it does.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Its version.
    pub version: String,
    /// The newest version of the API that it speaks.
    pub api: String,
    /// Whether containers outlive it.
    pub live_restore: Option<bool>,
    /// The version of control groups.
    pub cgroups: Option<String>,
    /// What keeps the file systems of containers.
    pub storage: Option<String>,
    /// The folder on its machine that all of it is in.
    pub root: Option<String>,
    /// The time by its clock.
    pub time: Option<OffsetDateTime>,
}

impl Docker {
    /// Asks the engine what it is.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer.
    pub async fn describe(&self) -> Result<Description> {
        let ask = async { futures::try_join!(self.client()?.version(), self.client()?.info()) };
        let (version, info) = self.call(Task::Ping, ask).await?;
        Ok(Description {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            live_restore: info.live_restore_enabled,
            cgroups: info.cgroup_version.map(|v| v.to_string()),
            storage: info.driver,
            root: info.docker_root_dir,
            time: info.system_time.as_deref().and_then(convert::date),
        })
    }

    /// Whether the network is there as specified. `Conflict` if one of its name differs.
    pub async fn has_network(&self, network: &NetworkSpec) -> Result<bool> {
        network::is_there(self, network).await
    }
}
