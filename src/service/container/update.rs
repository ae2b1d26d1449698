//! Changing what is kept of a container: its name, timeout, labels and keys.

use std::collections::BTreeMap;

use super::{AuthorizedKeys, Report, remove::unless_removing, stop::missing};
use crate::{
    model::{Name, Result, Rungs, Status, Timeout, Wake},
    service::Spindown,
};

/// What is to change; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Another name.
    pub name: Option<Name>,
    /// Another idle timeout.
    pub idle_timeout: Option<Timeout>,
    /// The rest of its ladder …
    pub rungs: Rungs,
    /// … of which these are to be as they are there, by their [names](Rungs::NAMES).
    pub rungs_to_set: Vec<&'static str>,
    /// For what it is to wake.
    pub wake: Option<Wake>,
    /// Other labels, in place of all it had.
    pub labels: Option<BTreeMap<String, String>>,
    /// Other keys, in place of all it had.
    pub authorized_keys: Option<AuthorizedKeys>,
}

impl Change {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        let Self { name, idle_timeout, rungs: _, rungs_to_set, wake, labels, authorized_keys } = self;
        let lasting = idle_timeout.is_none() && rungs_to_set.is_empty() && wake.is_none() && labels.is_none();
        lasting && name.is_none() && authorized_keys.is_none()
    }
}

impl Spindown {
    /// Changes a container. An explicit request like this is a sign of use, and has one go on that was frozen: at once, or
    /// as soon as the engine can.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name is in use or the engine has it no more; `Unavailable` without engine or store.
    pub async fn update_container(&self, name: &str, change: Change) -> Result<Report> {
        let id = self.find(name)?;
        self.touch(&id);
        let _lock = self.locks.lock_in_time(&id).await?;
        let entry = self.snapshot.require(&id)?;
        let engine_id = entry.container.engine_id.clone();
        unless_removing(&entry.container)?;
        if entry.status() == Status::Missing {
            return Err(missing(&entry.container.name));
        }
        if change.authorized_keys.is_some() || change.name.is_some() {
            // Files may take long, so an engine that hangs is found out first.
            self.engine.ping().await?;
        }
        if let Some(keys) = &change.authorized_keys {
            self.put_authorized_keys(&engine_id, &entry.container.image, keys).await?;
        }
        if let Some(name) = change.name.as_ref().filter(|name| **name != entry.container.name) {
            self.store.ping().await?;
            self.engine.rename(&engine_id, name).await?;
            self.look_again(&id, &engine_id).await?;
        }
        let has_rungs = !change.rungs_to_set.is_empty();
        if has_rungs || change.idle_timeout.is_some() || change.wake.is_some() || change.labels.is_some() {
            self.amend(&id, |container| {
                for name in &change.rungs_to_set {
                    container.rungs.take_over(name, &change.rungs);
                }
                container.idle_timeout = change.idle_timeout.unwrap_or(container.idle_timeout);
                container.wake = change.wake.unwrap_or(container.wake);
                if let Some(labels) = &change.labels {
                    container.labels.clone_from(labels);
                }
            })
            .await?;
        }
        if change.wake.is_some() {
            self.divert_or_later().await;
        }
        // It has been changed, whatever becomes of this.
        self.thaw_if_frozen(&id).await;
        Ok(self.report(&self.snapshot.require(&id)?))
    }
}
