//! Gauges: what is measured by looking at what there is now.

use super::{Spindown, Unpoisoned};
use crate::{
    meter,
    model::{Moment, Status},
};

impl Spindown {
    /// Looks at what there is, for `/metrics`.
    pub async fn gauge(&self) {
        for check in self.health().await {
            metrics::gauge!(meter::PART_UP, "part" => check.part).set(f64::from(u8::from(check.problem.is_none())));
        }
        let (mut counts, mut unflushed) = (Status::ALL.map(|status| (status, 0_u32)), 0_u32);
        for entry in self.snapshot.read().entries() {
            unflushed += u32::from(entry.unflushed);
            for (status, count) in &mut counts {
                *count += u32::from(entry.status() == *status);
            }
        }
        for (status, count) in counts {
            metrics::gauge!(meter::CONTAINERS, "status" => status.as_str()).set(count);
        }
        metrics::gauge!(meter::CARRIED).set(self.carried_count() as f64);
        metrics::gauge!(meter::UNFLUSHED).set(unflushed);
        metrics::gauge!(meter::SWEEP_AGE).set(self.since_last_sweep().as_secs_f64());
    }

    /// How long ago the last sweep was; before the first, how long the server has run.
    pub(super) fn since_last_sweep(&self) -> std::time::Duration {
        let last = self.watch.locked().last_sweep.map_or(Moment::START, |sweep| sweep.moment);
        self.clock.now().moment.since(last)
    }
}
