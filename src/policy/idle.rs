//! The idle judge: keep or sleep, why, and until when.

use std::{fmt, time::Duration};

use crate::model::{Heed, Heeds, Ladder, Moment, Source, Status, StoppedBy, Timeout, format_duration};

/// What kind of sign of use was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sign {
    /// The container was started.
    Start,
    /// Somebody asked for it explicitly through the API.
    Request,
    /// Data moved on a connection to one of its ports.
    Traffic,
    /// Something was typed at one of its terminals.
    Terminal,
    /// Processors worked for it.
    Processor,
    /// Disks were read or written for it.
    Disk,
    /// It reported connections.
    Connections,
    /// Somebody has a connection to it through the door.
    Carried,
    /// It reported that there are none: a sign of life, not of use.
    CheckIn,
    /// What the store remembers of earlier use.
    Remembered,
}

impl Sign {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Request,
        Self::Traffic,
        Self::Terminal,
        Self::Processor,
        Self::Disk,
        Self::Connections,
        Self::Carried,
        Self::CheckIn,
        Self::Remembered,
    ];

    /// Whether this is use, rather than mere life.
    pub fn is_activity(self) -> bool {
        self != Self::CheckIn
    }

    /// What it is a sign from, where that can be heeded or not.
    pub fn source(self) -> Option<Source> {
        match self {
            Self::Traffic => Some(Source::Traffic),
            Self::Terminal => Some(Source::Terminal),
            Self::Processor => Some(Source::Processor),
            Self::Disk => Some(Source::Disk),
            Self::Connections => Some(Source::Connections),
            Self::Start | Self::Request | Self::Carried | Self::CheckIn | Self::Remembered => None,
        }
    }

    /// Whether it counts as use where this is heeded; `seen` if the server sees for itself what goes on in the container.
    pub fn counts(self, heeds: &Heeds, seen: bool) -> bool {
        let heeded = |source| match heeds.of(source) {
            Heed::Off => false,
            Heed::On | Heed::Above(_) => true,
            Heed::Auto => !seen,
        };
        self.is_activity() && self.source().is_none_or(heeded)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Request => "request",
            Self::Traffic => "traffic",
            Self::Terminal => "terminal",
            Self::Processor => "processor",
            Self::Disk => "disk",
            Self::Connections => "connections",
            Self::Carried => "carried",
            Self::CheckIn => "check-in",
            Self::Remembered => "remembered",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "it was started",
            Self::Request => "somebody asked for it",
            Self::Traffic => "data moved on a connection to it",
            Self::Terminal => "somebody typed at a terminal of it",
            Self::Processor => "it kept a processor busy",
            Self::Disk => "it kept a disk busy",
            Self::Connections => "it reported connections",
            Self::Carried => "somebody came to it through the door",
            Self::CheckIn => "it reported no connections",
            Self::Remembered => "it was in use, as the store remembers",
        })
    }
}

/// One sign and when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was seen.
    pub sign: Sign,
    /// When.
    pub at: Moment,
}

/// Why nothing is stopped at the moment, whatever the evidence: it may be incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The engine does not answer.
    EngineAway,
    /// The store does not answer.
    StoreAway,
    /// The container could be looked into before and cannot be now, and does not report either.
    SightAway,
}

/// All that the verdict depends on.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What the container is doing.
    pub status: Status,
    /// The ladder that holds for it.
    pub ladder: &'a Ladder,
    /// The signs seen, without those that are not heeded.
    pub evidence: &'a [Evidence],
    /// Since when nothing that mattered can have been missed.
    pub watched_since: Moment,
    /// Since when it is up.
    pub up_since: Option<Moment>,
    /// Since when it is down.
    pub down_since: Option<Moment>,
    /// Until when nobody is to take it down a rung: by request, or by a timetable.
    pub kept_until: Option<Moment>,
    /// Whether it was frozen here, if it is: what others froze is left alone.
    pub frozen_here: bool,
    /// Whether it would be heard who comes for it if it were frozen.
    pub heard: bool,
    /// Whether somebody has connected so lately that it cannot be told yet what for.
    pub unsettled: bool,
    /// How many freezes in a row have met somebody.
    pub false_freezes: u32,
    /// Whether steps down are suspended.
    pub hold: Option<Hold>,
}

/// Keep, or down which rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It is to be frozen.
    Freeze,
    /// It is to be stopped.
    Sleep,
    /// It is to be deleted.
    Delete,
}

impl Verdict {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Keep, Self::Freeze, Self::Sleep, Self::Delete];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Freeze => "freeze",
            Self::Sleep => "sleep",
            Self::Delete => "delete",
        }
    }
}

/// The verdict's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not running, so there is nothing to stop.
    NotRunning(Status),
    /// Nothing is set that would take it down.
    Never,
    /// Steps down are suspended.
    Held(Hold),
    /// By request or by a timetable, until then.
    Kept(Moment),
    /// The last sign of use is younger than the timeout.
    Used(Evidence),
    /// Watching was interrupted; since then less than the timeout has passed.
    Interrupted(Moment),
    /// Somebody has just connected.
    Unsettled,
    /// Nothing since then, for the timeout.
    Idle(Moment),
    /// It has been up since then, for as long as it may.
    Aged(Moment),
    /// It has been down since then.
    Down(Moment),
}

/// A stop that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Moment,
    /// What for.
    pub by: StoppedBy,
}

/// The judge's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Keep, or down which rung.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Its stop, if nothing more happens; `None` if it never is stopped.
    pub due: Option<Due>,
    /// What it does next, if nothing more happens, and when.
    pub next: Option<(Verdict, Moment)>,
}

/// However long a container has been down, it is deleted no sooner than this after watching began anew: a clock that was
/// wrong, or an outage, must not cost anybody his work.
const LEAST_WATCH: Duration = Duration::from_secs(3_600);
/// A freeze waits no more than so many times its time, however many were false.
const MOST_BACK_OFF: u32 = 64;

/// Stops that are no further apart than this are the same one to whoever is warned of them.
const SAME_STOP: Duration = Duration::from_secs(30);

/// A freeze that met somebody sooner than this should not have been.
const FALSE_WITHIN: Duration = Duration::from_secs(300);

/// Whether a freeze that lasted so long, and ended because something came for the container, should not have been.
pub fn was_false(lasted: Duration) -> bool {
    lasted < FALSE_WITHIN
}

/// Decides whether a container goes down a rung.
///
/// The clock runs from the last sign of use, or from when watching began anew if that is later: what may have been
/// missed in between is never read as idleness.
pub fn judge(case: &Case<'_>, now: Moment) -> Judgement {
    match case.status {
        Status::Running => judge_up(case, now),
        Status::Frozen if case.frozen_here => judge_up(case, now),
        Status::Stopped => judge_down(case, now),
        other => Judgement { verdict: Verdict::Keep, reason: Reason::NotRunning(other), due: None, next: None },
    }
}

/// The stop of which whoever is logged in is to be told now, if he has not been told `before`. Of a stop for idleness nobody
/// is told within the first half of the timeout: it would come to him each time that he has done something.
pub fn warning(due: Option<Due>, ladder: &Ladder, before: Option<Moment>, now: Moment) -> Option<Due> {
    let (due, span) = due.zip(ladder.warn_before.span())?;
    let span = match due.by {
        StoppedBy::Age => span,
        _ => span.min(ladder.idle_timeout.span()? / 2),
    };
    let near = now < due.at && now + span >= due.at;
    let told = |of: Moment| due.at.since(of).max(of.since(due.at)) < SAME_STOP;
    (near && !before.is_some_and(told)).then_some(due)
}

fn judge_up(case: &Case<'_>, now: Moment) -> Judgement {
    let Case { ladder, up_since, .. } = case;
    let last_use = case.evidence.iter().filter(|e| e.sign.is_activity()).max_by_key(|e| (e.at, e.sign));
    let (from, awake) = match last_use {
        Some(last) if last.at >= case.watched_since => (last.at, Reason::Used(*last)),
        _ => (case.watched_since, Reason::Interrupted(case.watched_since)),
    };
    let idle = ladder.idle_timeout.span().map(|timeout| (from + timeout, Reason::Idle(from), StoppedBy::Idle));
    let aged = ladder.max_age.span().zip(*up_since);
    let aged = aged.map(|(age, since)| (since + age, Reason::Aged(since), StoppedBy::Age));
    let stop = idle.into_iter().chain(aged).min_by_key(|(at, ..)| *at);
    let back_off = 2_u32.saturating_pow(case.false_freezes).min(MOST_BACK_OFF);
    let freeze = ladder.freeze_after.span().filter(|_| case.status == Status::Running && case.heard);
    let freeze = freeze.map(|after| (from + after * back_off, Reason::Idle(from)));
    let freeze = freeze.filter(|(at, _)| stop.is_none_or(|(stop, ..)| *at < stop));

    let kept = |at: Moment| case.kept_until.map_or(at, |until| at.max(until));
    let due = stop.map(|(at, _, by)| Due { at: kept(at), by });
    let freeze_at = freeze.map(|(at, _)| kept(at)).filter(|at| due.is_none_or(|due| *at < due.at));
    let next = freeze_at.map(|at| (Verdict::Freeze, at)).or(due.map(|due| (Verdict::Sleep, due.at)));
    let answer = |verdict, reason| Judgement { verdict, reason, due, next };
    let keep = |reason| answer(Verdict::Keep, reason);
    let Some((_, next_at)) = next else { return keep(Reason::Never) };
    let too_old = aged.filter(|(at, ..)| kept(*at) <= now);
    match (case.hold, too_old) {
        // Its age is known, whatever goes on in it; else whoever is root there had a way to be kept up for good.
        (Some(Hold::SightAway), Some((at, reason, by))) => {
            return Judgement { verdict: Verdict::Sleep, reason, due: Some(Due { at: kept(at), by }), next };
        }
        (Some(hold), _) => return keep(Reason::Held(hold)),
        (None, _) => {}
    }
    match (stop, freeze) {
        (Some((_, reason, _)), _) if due.is_some_and(|due| due.at <= now) => answer(Verdict::Sleep, reason),
        (_, Some(_)) if next_at <= now && case.unsettled => keep(Reason::Unsettled),
        (_, Some((_, reason))) if next_at <= now => answer(Verdict::Freeze, reason),
        _ => {
            let overdue = stop.map(|(at, ..)| at).into_iter().chain(freeze.map(|(at, _)| at)).any(|at| at <= now);
            match case.kept_until {
                Some(until) if overdue && until > now => keep(Reason::Kept(until)),
                _ => keep(awake),
            }
        }
    }
}

fn judge_down(case: &Case<'_>, now: Moment) -> Judgement {
    let keep = |reason, next| Judgement { verdict: Verdict::Keep, reason, due: None, next };
    let Some((span, since)) = case.ladder.delete_after.span().zip(case.down_since) else {
        return keep(Reason::NotRunning(case.status), None);
    };
    let at = (since + span).max(case.watched_since + span.min(LEAST_WATCH));
    let at = case.kept_until.map_or(at, |until| at.max(until));
    let next = Some((Verdict::Delete, at));
    match case.hold {
        Some(hold) => keep(Reason::Held(hold), next),
        None if now < at => keep(Reason::NotRunning(case.status), next),
        None => Judgement { verdict: Verdict::Delete, reason: Reason::Down(since), due: None, next },
    }
}

impl Judgement {
    /// The reason in one sentence, as seen at `now`.
    pub fn explain(&self, ladder: &Ladder, now: Moment) -> String {
        let ago = |at: Moment| format!("{} ago", format_duration(now.since(at)));
        let shown = |timeout: Timeout| timeout.span().map_or_else(|| "never".to_owned(), format_duration);
        let limit = shown(ladder.idle_timeout);
        match self.reason {
            Reason::NotRunning(status) => format!("It is {}, so there is nothing to stop.", status.as_str()),
            Reason::Never => "It is never stopped for being idle.".to_owned(),
            Reason::Held(Hold::EngineAway) => {
                "Nothing is stopped while the engine does not answer: signs of use may be missed.".to_owned()
            }
            Reason::Held(Hold::StoreAway) => {
                "Nothing is stopped while the store does not answer: signs of use may be missed.".to_owned()
            }
            Reason::Held(Hold::SightAway) => {
                "Nothing is stopped that could be looked into before, cannot be now, and does not report either: signs of \
                 use may be missed."
                    .to_owned()
            }
            Reason::Kept(until) => {
                format!(
                    "It is kept up for another {}, by request or by its timetable.",
                    format_duration(until.since(now))
                )
            }
            Reason::Used(last) => {
                format!("The last sign of use was {}: {}; the idle timeout is {limit}.", ago(last.at), last.sign)
            }
            Reason::Interrupted(since) => format!(
                "Watching began anew {} (a restart, an outage or a jump of the clock), so the idle timeout of {limit} \
                 runs from there.",
                ago(since)
            ),
            Reason::Unsettled => "Somebody has just connected: it cannot be told yet what for.".to_owned(),
            Reason::Idle(from) => match self.verdict {
                Verdict::Freeze => {
                    format!("The last sign of use was {}: it is frozen, to see whether anybody minds.", ago(from))
                }
                _ => format!("The last sign of use was {}, longer than the idle timeout of {limit}.", ago(from)),
            },
            Reason::Aged(since) => {
                format!("It came up {}, and may be up for {} at a stretch.", ago(since), shown(ladder.max_age))
            }
            Reason::Down(since) => {
                let down = format_duration(now.since(since));
                format!("It has been down for {down}, and is deleted after {}.", shown(ladder.delete_after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Rungs;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn seen(sign: Sign, seconds: u64) -> Evidence {
        Evidence { sign, at: at(seconds) }
    }

    fn after(seconds: u64) -> Timeout {
        Timeout::After(Duration::from_secs(seconds))
    }

    fn ladder(idle: Timeout, rungs: &[(&str, &str)]) -> Ladder {
        let mut own = Rungs::default();
        for (name, text) in rungs {
            own.set(name, text).unwrap();
        }
        Ladder::of(idle, [&own, &Rungs::default(), &Rungs::default()])
    }

    fn case<'a>(ladder: &'a Ladder, evidence: &'a [Evidence]) -> Case<'a> {
        Case {
            status: Status::Running,
            ladder,
            evidence,
            watched_since: at(0),
            up_since: Some(at(0)),
            down_since: None,
            kept_until: None,
            frozen_here: false,
            heard: true,
            unsettled: false,
            false_freezes: 0,
            hold: None,
        }
    }

    #[test]
    fn the_table_of_verdicts() {
        use Sign::*;
        let minute = ladder(after(60), &[]);
        let start = [seen(Start, 0)];
        let with = |sign, second| [seen(Start, 0), seen(sign, second)];
        let (connected, alive, asked, typed) =
            (with(Connections, 50), with(CheckIn, 59), with(Request, 59), with(Terminal, 30));
        let on = |evidence| case(&minute, evidence);
        let down = |status| Case { status, ..on(&start) };
        let held = |hold| Case { hold: Some(hold), ..on(&start) };
        let rows = [
            ("just started", on(&start), 59, Verdict::Keep, Some(60)),
            ("no check-in ever", on(&start), 60, Verdict::Sleep, Some(60)),
            ("connected", on(&connected), 109, Verdict::Keep, Some(110)),
            ("gone", on(&connected), 110, Verdict::Sleep, Some(110)),
            ("alive is not in use", on(&alive), 60, Verdict::Sleep, Some(60)),
            ("a request is use", on(&asked), 60, Verdict::Keep, Some(119)),
            ("keys are use", on(&typed), 89, Verdict::Keep, Some(90)),
            ("fresh grace", Case { watched_since: at(500), ..on(&start) }, 559, Verdict::Keep, Some(560)),
            ("grace over", Case { watched_since: at(500), ..on(&start) }, 560, Verdict::Sleep, Some(560)),
            ("nothing known at all", Case { watched_since: at(10), ..on(&[]) }, 69, Verdict::Keep, Some(70)),
            ("engine away", held(Hold::EngineAway), 900, Verdict::Keep, Some(60)),
            ("store away", held(Hold::StoreAway), 900, Verdict::Keep, Some(60)),
            ("sight away", held(Hold::SightAway), 900, Verdict::Keep, Some(60)),
            ("stopped", down(Status::Stopped), 900, Verdict::Keep, None),
            ("frozen by others", down(Status::Frozen), 900, Verdict::Keep, None),
            ("stopping", down(Status::Stopping), 900, Verdict::Keep, None),
            ("missing", down(Status::Missing), 900, Verdict::Keep, None),
            ("extended", Case { kept_until: Some(at(80)), ..on(&start) }, 79, Verdict::Keep, Some(80)),
            ("extended before that", Case { kept_until: Some(at(40)), ..on(&start) }, 60, Verdict::Sleep, Some(60)),
            (
                "an unsettled knock holds up no stop",
                Case { unsettled: true, ..on(&start) },
                60,
                Verdict::Sleep,
                Some(60),
            ),
        ];
        for (what, case, now, verdict, due) in rows {
            let judgement = judge(&case, at(now));
            assert_eq!(judgement.verdict, verdict, "{what}");
            assert_eq!(judgement.due.map(|due| due.at), due.map(at), "{what}");
            assert!(judgement.explain(&minute, at(now)).ends_with('.'), "{what}");
        }
        let never = ladder(Timeout::Never, &[]);
        assert_eq!(judge(&case(&never, &start), at(1_000_000)).reason, Reason::Never);
    }

    #[test]
    fn the_table_of_warnings() {
        let ladder = ladder(after(600), &[("warn_before", "2m"), ("max_age", "1h")]);
        let due = |second, by| Some(Due { at: at(second), by });
        let (idle, aged) = (due(600, StoppedBy::Idle), due(3_600, StoppedBy::Age));
        for (what, due, before, now, warned) in [
            ("too early", idle, None, 479, false),
            ("now", idle, None, 480, true),
            ("too late", idle, None, 600, false),
            ("told already", idle, Some(600), 500, false),
            ("told by a clock that runs a little differently", idle, Some(601), 500, false),
            ("told of another", idle, Some(400), 500, true),
            ("of its age", aged, None, 3_480, true),
            ("of nothing", None, None, 3_480, false),
        ] {
            assert_eq!(warning(due, &ladder, before.map(at), at(now)).is_some(), warned, "{what}");
        }
        let early = self::ladder(after(300), &[("warn_before", "10m"), ("max_age", "1h")]);
        let idle = due(300, StoppedBy::Idle);
        assert_eq!(warning(idle, &early, None, at(149)), None, "he has just done something");
        assert_eq!(warning(idle, &early, None, at(150)), idle);
        assert_eq!(warning(aged, &early, None, at(3_000)), aged);
        let mute = self::ladder(after(300), &[]);
        assert_eq!(warning(idle, &mute, None, at(299)), None);
    }

    #[test]
    fn the_table_of_rungs() {
        let (verdict, next) = (|j: Judgement| j.verdict, |j: Judgement| j.next);
        let both = ladder(after(60), &[("freeze_after", "20s")]);
        let start = [seen(Sign::Start, 0)];
        let on = case(&both, &start);
        let frozen = Case { status: Status::Frozen, frozen_here: true, ..on.clone() };
        assert_eq!(next(judge(&on, at(0))), Some((Verdict::Freeze, at(20))));
        assert_eq!(verdict(judge(&on, at(19))), Verdict::Keep);
        assert_eq!(verdict(judge(&on, at(20))), Verdict::Freeze);
        assert_eq!(judge(&Case { unsettled: true, ..on.clone() }, at(20)).reason, Reason::Unsettled);
        assert_eq!(next(judge(&Case { heard: false, ..on.clone() }, at(20))), Some((Verdict::Sleep, at(60))));
        assert_eq!(next(judge(&Case { false_freezes: 1, ..on.clone() }, at(0))), Some((Verdict::Freeze, at(40))));
        assert_eq!(
            next(judge(&Case { false_freezes: 2, ..on.clone() }, at(0))),
            Some((Verdict::Sleep, at(60))),
            "later than the stop it makes no sense"
        );
        assert_eq!(verdict(judge(&frozen, at(59))), Verdict::Keep);
        assert_eq!(next(judge(&frozen, at(20))), Some((Verdict::Sleep, at(60))));
        assert_eq!(verdict(judge(&frozen, at(60))), Verdict::Sleep);
        assert_eq!(verdict(judge(&Case { kept_until: Some(at(99)), ..on.clone() }, at(98))), Verdict::Keep);
        assert_eq!(judge(&Case { kept_until: Some(at(99)), ..on }, at(98)).reason, Reason::Kept(at(99)));

        let by = |judgement: Judgement| judgement.due.map(|due| due.by);
        let aged = ladder(Timeout::Never, &[("max_age", "1h")]);
        let busy = [seen(Sign::Start, 0), seen(Sign::Processor, 3_599)];
        let old = judge(&case(&aged, &busy), at(3_600));
        assert_eq!((old.verdict, by(old)), (Verdict::Sleep, Some(StoppedBy::Age)));
        assert_eq!(verdict(judge(&case(&aged, &busy), at(3_599))), Verdict::Keep);
        let blind = Case { hold: Some(Hold::SightAway), ..case(&aged, &busy) };
        assert_eq!(verdict(judge(&blind, at(3_599))), Verdict::Keep);
        assert_eq!(
            (verdict(judge(&blind, at(3_600))), by(judge(&blind, at(3_600)))),
            (Verdict::Sleep, Some(StoppedBy::Age))
        );
        let away = Case { hold: Some(Hold::StoreAway), ..case(&aged, &busy) };
        assert_eq!(verdict(judge(&away, at(3_600))), Verdict::Keep);
        let extended = judge(&Case { kept_until: Some(at(4_000)), ..case(&aged, &busy) }, at(3_700));
        assert_eq!(extended.due, Some(Due { at: at(4_000), by: StoppedBy::Age }));
        let either = ladder(after(60), &[("max_age", "1h")]);
        assert_eq!(by(judge(&case(&either, &start), at(60))), Some(StoppedBy::Idle));

        let kept = ladder(after(60), &[("delete_after", "2h")]);
        let down = Case { status: Status::Stopped, down_since: Some(at(100)), ..case(&kept, &start) };
        assert_eq!(verdict(judge(&down, at(7_299))), Verdict::Keep);
        assert_eq!(verdict(judge(&down, at(7_300))), Verdict::Delete);
        let restarted = Case { watched_since: at(7_000), ..down.clone() };
        assert_eq!(
            next(judge(&restarted, at(7_300))),
            Some((Verdict::Delete, at(10_600))),
            "watched for an hour first"
        );
        assert_eq!(verdict(judge(&Case { hold: Some(Hold::EngineAway), ..down.clone() }, at(9_000))), Verdict::Keep);
        assert_eq!(verdict(judge(&Case { down_since: None, ..down }, at(90_000))), Verdict::Keep);
    }

    #[test]
    fn what_is_reported_counts_until_the_server_sees_for_itself() {
        let heeds = |text| Heeds::parse(text).unwrap();
        for (text, seen, counts) in [
            ("", false, true),
            ("", true, false),
            ("connections=on", true, true),
            ("connections=off", false, false),
            ("connections=auto", true, false),
        ] {
            assert_eq!(Sign::Connections.counts(&heeds(text), seen), counts, "{text} {seen}");
        }
        assert!(Sign::Start.counts(&heeds(""), true) && !Sign::CheckIn.counts(&heeds(""), true));
        assert!(!Sign::Traffic.counts(&heeds("traffic=off"), true));
    }

    fn any_evidence() -> impl Strategy<Value = Vec<Evidence>> {
        let sign = prop::sample::select(Sign::ALL.to_vec());
        prop::collection::vec((sign, 0u64..1_000).prop_map(|(s, t)| seen(s, t)), 0..12)
    }

    fn any_timeout() -> impl Strategy<Value = Timeout> {
        prop_oneof![Just(Timeout::Never), (1u64..500).prop_map(after)]
    }

    fn any_ladder() -> impl Strategy<Value = Ladder> {
        (any_timeout(), any_timeout(), any_timeout(), any_timeout()).prop_map(|(idle, freeze, age, delete)| {
            let own = Rungs {
                freeze_after: Some(freeze),
                max_age: Some(age),
                delete_after: Some(delete),
                ..Rungs::default()
            };
            Ladder::of(idle, [&own, &Rungs::default(), &Rungs::default()])
        })
    }

    fn any_situation() -> impl Strategy<Value = (Status, u64, Option<u64>, bool, bool, u32, bool)> {
        let status = prop::sample::select(Status::ALL.to_vec());
        (status, 0u64..1_000, prop::option::of(0u64..2_000), any::<bool>(), any::<bool>(), 0u32..9, any::<bool>())
    }

    proptest! {
        /// Nobody goes down a rung within its time after any activity or interruption, nor while he is kept up or steps are
        /// suspended; what others froze goes down none at all.
        #[test]
        fn no_step_before_its_time(
            ladder in any_ladder(), evidence in any_evidence(), situation in any_situation(), now in 0u64..3_000,
        ) {
            let (status, watched, kept, frozen_here, unsettled, false_freezes, held) = situation;
            let case = Case {
                status, watched_since: at(watched), kept_until: kept.map(at), frozen_here, unsettled, false_freezes,
                down_since: Some(at(0)), hold: held.then_some(Hold::StoreAway), ..case(&ladder, &evidence)
            };
            let judgement = judge(&case, at(now));
            let unused = |span: Duration| {
                evidence.iter().filter(|e| e.sign.is_activity()).all(|e| e.at + span <= at(now)) && at(watched) + span <= at(now)
            };
            match judgement.verdict {
                Verdict::Keep => {}
                _ if held || kept.is_some_and(|kept| kept > now) => prop_assert!(false, "kept"),
                Verdict::Freeze => {
                    prop_assert_eq!(status, Status::Running);
                    prop_assert!(!unsettled && unused(ladder.freeze_after.span().unwrap()));
                }
                Verdict::Sleep => {
                    prop_assert!(status == Status::Running || status == Status::Frozen && frozen_here);
                    let aged = ladder.max_age.span().is_some_and(|age| at(0) + age <= at(now));
                    prop_assert!(aged || unused(ladder.idle_timeout.span().unwrap()));
                }
                Verdict::Delete => {
                    prop_assert_eq!(status, Status::Stopped);
                    prop_assert!(at(0) + ladder.delete_after.span().unwrap() <= at(now));
                }
            }
        }

        /// When the next step's time comes it is taken, and not a moment before.
        #[test]
        fn next_is_when_the_verdict_turns(
            ladder in any_ladder(), evidence in any_evidence(), situation in any_situation(),
        ) {
            let (status, watched, kept, frozen_here, _, false_freezes, _) = situation;
            let case = Case {
                status, watched_since: at(watched), kept_until: kept.map(at), frozen_here, false_freezes,
                down_since: Some(at(0)), ..case(&ladder, &evidence)
            };
            let judgement = judge(&case, at(0).before(Duration::from_secs(1)));
            if let Some((step, due)) = judgement.next {
                prop_assert_eq!(judge(&case, due).verdict, step);
                prop_assert_eq!(judge(&case, due.before(Duration::from_millis(1))).verdict, Verdict::Keep);
            } else {
                prop_assert_eq!(judge(&case, at(1_000_000)).verdict, Verdict::Keep);
            }
        }

        /// More evidence, in any order, never brings a step nearer.
        #[test]
        fn evidence_only_postpones(
            ladder in any_ladder(), mut evidence in any_evidence(), extra in any_evidence(), watched in 0u64..1_000,
        ) {
            let next = |evidence: &[Evidence]| {
                let judged = judge(&Case { watched_since: at(watched), ..case(&ladder, evidence) }, at(0));
                (judged.due.map(|due| due.at), judged.next.map(|(_, at)| at))
            };
            let before = next(&evidence);
            evidence.extend(extra);
            prop_assert!(next(&evidence) >= before);
            evidence.reverse();
            prop_assert!(next(&evidence) >= before);
        }
    }
}
