//! Activity: check-ins and other signs of use, when they are written down, and what the judge makes of them.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{Quota, RateLimiter, clock, middleware::NoOpMiddleware, state::keyed::DefaultKeyedStateStore};
use time::OffsetDateTime;

use super::{Spindown, Unpoisoned, entry::Entry};
use crate::{
    clock::Clock,
    meter,
    model::{Activity, ContainerId, Error, Kind, Ladder, Moment, Result, Stamp, Status, Timeout, What},
    policy::idle::{Case, Hold, Judgement, Sign, Verdict, judge},
};

/// Check-ins a second that one container may send …
const CHECK_INS_A_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// … and how many at once.
const CHECK_INS_AT_ONCE: NonZeroU32 = NonZeroU32::new(20).expect("twenty is not zero");
/// How often the store is asked whether it is there when there is nothing to write.
const STORE_PING_EVERY: Duration = Duration::from_secs(5);

/// The clock of the service, as the limiter reads it.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl clock::Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now().moment.since(Moment::START)
    }
}

/// Keeps a container that reports in bursts from slowing the others.
pub(super) struct CheckInLimiter(
    RateLimiter<ContainerId, DefaultKeyedStateStore<ContainerId>, Ticks, NoOpMiddleware<Duration>>,
);

impl CheckInLimiter {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(CHECK_INS_A_SECOND).allow_burst(CHECK_INS_AT_ONCE);
        Self(RateLimiter::dashmap_with_clock(quota, Ticks(clock)))
    }

    fn admit(&self, id: &ContainerId) -> Result<()> {
        self.0
            .check_key(id)
            .map_err(|_| Error::new(Kind::TooMany, "too many check-ins at once: once a minute is enough"))
    }

    /// Forgets whoever has been quiet.
    fn trim(&self) {
        self.0.retain_recent();
    }
}

/// One sign of use, as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct SignSeen {
    /// What was seen.
    pub sign: Sign,
    /// Whether it counts as use of this container.
    pub counts: bool,
    /// When.
    pub at: OffsetDateTime,
    /// How long ago that is.
    pub age: Duration,
    /// The number of connections reported, for a check-in.
    pub connections: Option<u64>,
}

/// So many times during which nothing sleeps are followed one after the other; what comes after them is found out then.
const MOST_TIMES: usize = 32;

/// Until when nothing sleeps that is to do so at a moment.
fn awake_until(ladder: &Ladder, at: Moment, now: Stamp) -> Option<Moment> {
    let date = now.date_of(at);
    let until = ladder.keep_awake.iter().filter_map(|table| table.lasts_until(date)).max()?;
    Some(now.moment_of(until))
}

/// A stop that failed, as it is shown.
#[derive(Clone, Debug)]
pub struct StopTrouble {
    /// Failures in a row.
    pub failures: u32,
    /// What the last one was.
    pub message: String,
    /// When it is tried again.
    pub next_try_at: OffsetDateTime,
}

/// Why a container is up or down, and what comes next.
#[derive(Clone, Debug)]
pub struct ActivityReport {
    /// The container.
    pub id: ContainerId,
    /// What it is doing.
    pub status: Status,
    /// Its idle timeout.
    pub idle_timeout: Timeout,
    /// The signs seen, the latest first.
    pub evidence: Vec<SignSeen>,
    /// Keep or sleep.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// When it is stopped if nothing more happens; `None` if it is not.
    pub changes_at: Option<OffsetDateTime>,
    /// What it does next if nothing more happens, and when.
    pub next: Option<(Verdict, OffsetDateTime)>,
    /// The ladder that holds for it.
    pub ladder: Ladder,
    /// Until when it is kept up by request.
    pub kept_until: Option<OffsetDateTime>,
    /// Whether Spindown sees for itself what goes on in it.
    pub seen: bool,
    /// How many freezes in a row have met somebody: its time before the next doubles with each.
    pub false_freezes: u32,
    /// Whether a connection wakes it now.
    pub wakes: bool,
    /// What happened to it last, the latest first.
    pub history: Vec<(OffsetDateTime, What)>,
    /// A stop that failed and is tried again.
    pub trouble: Option<StopTrouble>,
}

impl Spindown {
    /// Takes a container's report of its connections. The container is the one that has the source address, which it
    /// keeps for life and no other can get; it must be running.
    ///
    /// # Errors
    /// `NotFound` if the address belongs to no running container, `TooMany` for a burst; `Unavailable` before the engine
    /// has told which containers there are.
    pub fn check_in(&self, source: IpAddr, connections: u64) -> Result<ContainerId> {
        let outcome = self.take_check_in(source, connections);
        let word = match &outcome {
            Ok(_) => "taken",
            Err(error) if error.kind() == Kind::TooMany => "too_many",
            Err(_) => "refused",
        };
        metrics::counter!(meter::CHECK_INS, "outcome" => word).increment(1);
        outcome
    }

    fn take_check_in(&self, source: IpAddr, connections: u64) -> Result<ContainerId> {
        let unknown = || Error::not_found(format!("{source} is not the address of a running container"));
        let IpAddr::V4(address) = source.to_canonical() else { return Err(unknown()) };
        let id = self.snapshot.at_address(address).ok_or_else(|| self.know().err().unwrap_or_else(unknown))?;
        self.check_ins.admit(&id)?;
        let now = self.clock.now();
        let noted = self.snapshot.update(&id, |entry| {
            let up = matches!(entry.status(), Status::Running | Status::Stopping);
            if up {
                entry.check_in(connections, now);
            }
            up
        });
        if noted == Some(true) { Ok(id) } else { Err(unknown()) }
    }

    /// Notes that somebody asked for a container.
    pub(super) fn touch(&self, id: &ContainerId) {
        let now = self.clock.now();
        self.snapshot.update(id, |entry| entry.note(Sign::Request, now));
    }

    /// Writes touches, and what else is not in the store yet. Finds out whether the store is there.
    pub async fn flush(&self) {
        let touched: Vec<(ContainerId, Option<Activity>)> = {
            let snapshot = self.snapshot.read();
            snapshot.entries().filter(|e| e.unflushed).map(|e| (e.container.id.clone(), e.activity())).collect()
        };
        let activities: Vec<_> = touched.into_iter().filter_map(|(id, activity)| Some((id, activity?))).collect();
        let quiet_for = self.watch.locked().last_store_word.map(|at| self.clock.now().moment.since(at));
        let outcome = if !activities.is_empty() {
            self.store.merge_activities(&activities).await
        } else if quiet_for.is_none_or(|quiet| quiet >= STORE_PING_EVERY) {
            self.store.ping().await
        } else {
            return;
        };
        self.store_answered(outcome.is_ok());
        match outcome {
            Ok(()) => {
                for (id, written) in activities {
                    let there = self.snapshot.update(&id, |entry| entry.flushed(written));
                    if there.is_none() {
                        // Removed meanwhile: its activity must not outlive it.
                        let _ = self.store.remove_container(&id).await;
                    }
                }
                self.check_ins.trim();
                self.save_all().await;
            }
            Err(error) => tracing::warn!(
                touches = activities.len(),
                error = error.message(),
                "touches are kept until the store is back"
            ),
        }
    }

    /// What the judge says of a container now.
    pub(super) fn judge(&self, entry: &Entry, now: Stamp) -> Judgement {
        let mut judging = self.judging(now);
        let mut judgement = judging(entry, None);
        // What comes next may fall into a time when nothing sleeps, and when that is over into another one.
        for _ in 0..MOST_TIMES {
            let Some((_, next)) = judgement.next else { break };
            let Some(until) = awake_until(&entry.ladder, next.max(now.moment), now) else { break };
            judgement = judging(entry, Some(until));
        }
        judgement
    }

    /// The judge, for as many containers as there are: what is the same for all is looked up once. He is told of a time
    /// until which nothing sleeps if one is known.
    fn judging(&self, now: Stamp) -> impl FnMut(&Entry, Option<Moment>) -> Judgement {
        let (since, hold) = {
            let watch = self.watch.locked();
            (watch.since, watch.hold())
        };
        let (heard, blind) = (self.settings.door && !self.vitals.is_deaf(), self.vitals.went_blind());
        let mut evidence = Vec::new();
        move |entry, awake_until| {
            evidence.clear();
            evidence.extend(entry.evidence());
            let extended = entry.container.kept_until.map(|until| now.moment_of(until));
            let status = entry.status();
            let down = status == Status::Stopped;
            let case = Case {
                status,
                ladder: &entry.ladder,
                evidence: &evidence,
                watched_since: since.max(entry.known_since),
                up_since: entry.since.filter(|_| !down),
                down_since: entry.since.filter(|_| down),
                kept_until: extended.max(awake_until),
                frozen_here: entry.is_frozen_here(),
                heard,
                unsettled: self.is_unsettled(entry),
                false_freezes: entry.false_freezes,
                hold: hold.or((!down && entry.is_unknown(blind)).then_some(Hold::SightAway)),
            };
            judge(&case, now.moment)
        }
    }

    /// The verdicts of a sweep: timetables are looked at only where something is due.
    pub(super) fn verdicts(&self, now: Stamp) -> impl FnMut(&Entry) -> Judgement {
        let mut judging = self.judging(now);
        move |entry| {
            let judgement = judging(entry, None);
            if judgement.verdict == Verdict::Keep || entry.ladder.keep_awake.is_empty() {
                return judgement;
            }
            self.judge(entry, now)
        }
    }

    /// The answer to "why?".
    ///
    /// # Errors
    /// `NotFound` if no container is called `name`.
    pub fn activity(&self, name: &str) -> Result<ActivityReport> {
        let id = self.find(name)?;
        let entry = self.snapshot.require(&id)?;
        let now = self.clock.now();
        let judgement = self.judge(&entry, now);
        let mut evidence: Vec<_> = entry.signs.iter().collect();
        evidence.sort_by_key(|(_, stamp)| std::cmp::Reverse(stamp.moment));
        Ok(ActivityReport {
            id,
            status: entry.status(),
            idle_timeout: entry.container.idle_timeout,
            evidence: evidence
                .into_iter()
                .map(|(sign, stamp)| SignSeen {
                    sign: *sign,
                    counts: entry.is_use(*sign),
                    at: stamp.at,
                    age: now.moment.since(stamp.moment),
                    connections: entry.connections.filter(|_| *sign == Sign::CheckIn),
                })
                .collect(),
            verdict: judgement.verdict,
            reason: judgement.explain(&entry.ladder, now.moment),
            changes_at: judgement.due.map(|due| now.date_of(due.at)),
            next: judgement.next.map(|(step, at)| (step, now.date_of(at))),
            kept_until: entry.container.kept_until.filter(|until| *until > now.at),
            seen: entry.track.is_some(),
            false_freezes: entry.false_freezes,
            ladder: entry.ladder.clone(),
            wakes: self.wakes(&entry),
            history: entry.history.iter().rev().map(|(stamp, what)| (stamp.at, what.clone())).collect(),
            trouble: entry.trouble.map(|trouble| StopTrouble {
                failures: trouble.failures,
                message: trouble.message,
                next_try_at: trouble.next_try.at,
            }),
        })
    }
}
