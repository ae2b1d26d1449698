//! Extending: keeping a container up for longer, at somebody's request.

use std::time::Duration;

use super::{Report, remove::unless_removing};
use crate::{
    model::{Error, Result, format_duration},
    service::Spindown,
};

impl Spindown {
    /// Keeps a container from going down for so much longer than it would stay as it is anyway, at most for as long from now
    /// on as the server allows.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for more than the server allows; `Conflict` while it is being removed; `Unavailable` without the
    /// store.
    pub async fn extend_container(&self, name: &str, by: Duration) -> Result<Report> {
        let most = self.settings.extend_most;
        if by > most {
            let (most, by) = (format_duration(most), format_duration(by));
            let message = format!("by: must be at most {most} (the server's idle.extend_most), not {by}");
            return Err(Error::invalid(message));
        }
        let id = self.find(name)?;
        let _lock = self.locks.lock_in_time(&id).await?;
        let entry = self.snapshot.require(&id)?;
        unless_removing(&entry.container)?;
        let now = self.clock.now();
        let next = self.judge(&entry, now).next.map_or(now.moment, |(_, at)| at.max(now.moment));
        if next >= now.moment + most {
            let left = format_duration(next.since(now.moment));
            return Err(Error::invalid(format!(
                "by: it stays as it is for {left} anyway, which is more than can be asked for"
            )));
        }
        let until = now.date_of((next + by).min(now.moment + most));
        self.amend(&id, |container| container.kept_until = container.kept_until.max(Some(until))).await?;
        Ok(self.report(&self.snapshot.require(&id)?))
    }
}
