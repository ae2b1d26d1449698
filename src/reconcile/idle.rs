//! Idle: the timer of the sweep.

use std::{sync::Arc, time::Duration};

use tokio_cron_scheduler::{Job, JobScheduler};

use crate::{
    model::{Error, Kind, Result},
    service::Spindown,
};

/// Starts the scheduler, which calls the sweep until it is shut down.
///
/// # Errors
/// `Internal` if the scheduler does not start.
pub async fn start(spindown: Arc<Spindown>) -> Result<JobScheduler> {
    let fault = |e| Error::new(Kind::Internal, "the scheduler does not start").caused_by(e);
    let schedule = cron_expression(spindown.settings().sweep_every)?;
    let scheduler = JobScheduler::new().await.map_err(fault)?;
    let job = Job::new_async(schedule.as_str(), move |_, _| {
        let spindown = Arc::clone(&spindown);
        Box::pin(async move {
            if !spindown.shutdown().is_cancelled() {
                // Its stops go on by themselves.
                drop(spindown.sweep());
            }
        })
    });
    scheduler.add(job.map_err(fault)?).await.map_err(fault)?;
    scheduler.start().await.map_err(fault)?;
    Ok(scheduler)
}

/// The six-field cron expression (seconds first) that fires every `interval`.
///
/// # Errors
/// `Invalid` for an interval that does not divide a minute or an hour: cron could not keep it.
pub fn cron_expression(interval: Duration) -> Result<String> {
    match interval.as_secs() {
        1 => Ok("* * * * * *".to_owned()),
        seconds @ 2..60 if 60 % seconds == 0 => Ok(format!("*/{seconds} * * * * *")),
        60 => Ok("0 * * * * *".to_owned()),
        seconds @ 61..3_600 if seconds % 60 == 0 && 3_600 % seconds == 0 => Ok(format!("0 */{} * * * *", seconds / 60)),
        3_600 => Ok("0 0 * * * *".to_owned()),
        _ => Err(Error::invalid(
            "a sweep's interval must divide a minute or an hour: 1s, 5s, 10s, 30s, 1m, 5m, 15m, 1h …",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_become_cron_expressions_or_are_refused() {
        for (seconds, expression) in [
            (1, Some("* * * * * *")),
            (5, Some("*/5 * * * * *")),
            (60, Some("0 * * * * *")),
            (300, Some("0 */5 * * * *")),
            (3_600, Some("0 0 * * * *")),
            (0, None),
            (7, None),
            (90, None),
            (7_200, None),
        ] {
            assert_eq!(cron_expression(Duration::from_secs(seconds)).ok().as_deref(), expression, "{seconds} s");
        }
    }
}
