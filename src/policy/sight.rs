//! What the server sees of a container from outside, look after look, and what of it is use.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::idle::{Evidence, Sign};
use crate::model::{Connection, Demand, Heed, Heeds, Look, Moment, Port, Source};

/// A connection that has not lasted longer has not shown that anybody is there, unless he has logged in: scanners and
/// guessers of passwords come and go.
pub const SETTLED: Duration = Duration::from_secs(30);

/// What is known of one container from looking at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// The connections to its ports at the last look: the container's port and the other end.
    connections: BTreeMap<(u16, SocketAddr), Known>,
    /// What its processors and disks had done by then, the oldest first.
    samples: VecDeque<Sample>,
}

/// What is known of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Since when it has been seen; `None` if it was there already at the first look.
    since: Option<Moment>,
    /// Whether it has logged in.
    login: bool,
    /// Whether that has been looked for.
    asked: bool,
    /// What had arrived there unread when the container could last have read it.
    unread: u32,
}

/// The counters at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Moment,
    processor: Option<Duration>,
    disk: Option<u64>,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The signs of use.
    pub evidence: Vec<Evidence>,
    /// Who has connected so lately, without having logged in, that it cannot be told what for.
    pub unsettled: Vec<IpAddr>,
    /// Who has sent bytes that it has not read since it was frozen.
    pub waiting: Vec<IpAddr>,
    /// Whose connections to its SSH server ended before they had logged in.
    pub fruitless: Vec<IpAddr>,
    /// Who has logged in since the look before.
    pub logged_in: Vec<IpAddr>,
}

/// What a look is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// The container's ports.
    pub ports: &'a [Port],
    /// What is heeded.
    pub heeds: &'a Heeds,
    /// Over how long processors and disks are measured.
    pub window: Duration,
    /// Whether it was looked for who has logged in.
    pub logins: bool,
    /// Whether it is frozen: it cannot read, nor answer, and what it did before is over.
    pub frozen: bool,
    /// What shows that somebody wants something of it while it is.
    pub demand: Demand,
}

impl Track {
    /// Whether a connection from there is known not to be a mere knock: it lasts, or has logged in.
    pub fn knows(&self, client: IpAddr, now: Moment) -> bool {
        self.connections.iter().any(|((_, other), known)| other.ip() == client && known.is_settled(now))
    }

    /// Whether the last look was begun later.
    pub fn is_newer_than(&self, now: Moment) -> bool {
        self.samples.back().is_some_and(|last| last.at > now)
    }

    /// Whether there is a connection at this end.
    pub fn has(&self, client: SocketAddr) -> bool {
        self.connections.keys().any(|(_, other)| *other == client)
    }

    /// Whether anybody's session may log in yet, so that it is worth looking for that.
    pub fn may_log_in(&self, now: Moment) -> bool {
        self.connections.values().any(|known| !known.is_settled(now))
    }
}

impl Known {
    fn is_settled(&self, now: Moment) -> bool {
        self.login || self.since.is_none_or(|since| now.since(since) >= SETTLED)
    }
}

/// Takes in a look at what was tracked `before`.
pub fn follow(before: Option<&Track>, look: &Look, rule: Rule<'_>, now: Moment) -> (Track, Findings) {
    let mut findings = Findings::default();
    let mut track = Track::default();
    let exposed = |connection: &&Connection| rule.ports.iter().any(|port| port.container == connection.port);
    for connection in look.connections.iter().filter(exposed) {
        let place = (connection.port, connection.client);
        let earlier = before.and_then(|track| track.connections.get(&place));
        let since = earlier.map_or_else(|| before.map(|_| now), |known| known.since);
        let login = connection.login || earlier.is_some_and(|known| known.login);
        // Nobody can show what he wants of what is frozen: his time begins when it goes on.
        let since =
            if rule.frozen && since.is_some_and(|since| now.since(since) < SETTLED) { Some(now) } else { since };
        let could_read = earlier.map_or(0, |known| known.unread);
        let asked = rule.logins || earlier.is_some_and(|known| known.asked);
        let known = Known { since, login, asked, unread: if rule.frozen { could_read } else { connection.unread } };
        if login && !earlier.is_some_and(|known| known.login) {
            findings.logged_in.push(connection.client.ip());
        }
        // Where the container has to speak first, a connection that was not there before waits for that.
        let waits = connection.unread > could_read || rule.demand == Demand::Connection && earlier.is_none();
        if rule.frozen && waits {
            findings.waiting.push(connection.client.ip());
        }
        if !known.is_settled(now) {
            findings.unsettled.push(connection.client.ip());
        } else if rule.heeds.of(Source::Traffic) != Heed::Off {
            findings.evidence.push(Evidence { sign: Sign::Traffic, at: now.before(connection.quiet) });
        }
        track.connections.insert(place, known);
    }
    for ((port, client), known) in before.into_iter().flat_map(|before| &before.connections) {
        let over = !track.connections.contains_key(&(*port, *client));
        // Who has come and gone between two looks may have logged in meanwhile.
        if over && *port == Port::SSH && known.asked && !known.is_settled(now) {
            findings.fruitless.push(client.ip());
        }
    }
    if rule.heeds.of(Source::Terminal) != Heed::Off {
        let typed = look.terminals.iter().map(|terminal| now.before(terminal.quiet)).max();
        findings.evidence.extend(typed.map(|at| Evidence { sign: Sign::Terminal, at }));
    }
    track.samples = before.map(|track| track.samples.clone()).unwrap_or_default();
    track.samples.push_back(Sample { at: now, processor: look.processor, disk: look.disk });
    // The oldest that is kept is the last from before the window began, so that it is covered whole.
    while track.samples.get(1).is_some_and(|second| now.since(second.at) >= rule.window) {
        track.samples.pop_front();
    }
    if !rule.frozen {
        findings.evidence.extend(work(&track.samples, rule, now));
    }
    (track, findings)
}

/// Whether processors or disks were busy over the window.
fn work(samples: &VecDeque<Sample>, rule: Rule<'_>, now: Moment) -> impl Iterator<Item = Evidence> {
    let ends = samples.front().zip(samples.back()).filter(|(first, last)| last.at.since(first.at) >= rule.window);
    let busy = ends.map(|(first, last)| {
        let span = last.at.since(first.at).as_secs_f64();
        let processor = first.processor.zip(last.processor).map(|(a, b)| b.saturating_sub(a).as_secs_f64() / span);
        let disk = first.disk.zip(last.disk).map(|(a, b)| b.saturating_sub(a) as f64 / span);
        [(Source::Processor, Sign::Processor, processor.map(|share| share * 1_000.0)), (Source::Disk, Sign::Disk, disk)]
    });
    let heeds = rule.heeds;
    let over = move |source, measured: Option<f64>| match heeds.of(source) {
        Heed::Above(threshold) => measured.is_some_and(|measured| measured > threshold as f64),
        Heed::Off | Heed::On | Heed::Auto => false,
    };
    let signs = busy.into_iter().flatten().filter(move |(source, _, measured)| over(*source, *measured));
    signs.map(move |(_, sign, _)| Evidence { sign, at: now })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Protocol, Terminal};

    const PORTS: [Port; 2] = [
        Port { container: 22, host: 20_000, protocol: Protocol::Tcp },
        Port { container: 80, host: 20_001, protocol: Protocol::Tcp },
    ];
    const WINDOW: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn client(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], number))
    }

    fn to(port: u16, quiet: u64) -> Connection {
        Connection { port, client: client(40_000), quiet: Duration::from_secs(quiet), unread: 0, login: false }
    }

    fn seeing(connections: &[Connection]) -> Look {
        Look { connections: connections.to_vec(), ..Look::default() }
    }

    fn rule(heeds: &Heeds) -> Rule<'_> {
        Rule { ports: &PORTS, heeds, window: WINDOW, logins: true, frozen: false, demand: Demand::Bytes }
    }

    /// Looks one after the other, each at its second; what the last one shows.
    fn last(looks: &[(u64, Look)], heeds: &str) -> (Track, Findings) {
        let heeds = Heeds::parse(heeds).unwrap();
        let mut track = None;
        let mut findings = Findings::default();
        for (second, look) in looks {
            let (next, found) = follow(track.as_ref(), look, rule(&heeds), at(*second));
            (track, findings) = (Some(next), found);
        }
        (track.unwrap(), findings)
    }

    fn signs(findings: &Findings) -> Vec<(Sign, Moment)> {
        findings.evidence.iter().map(|seen| (seen.sign, seen.at)).collect()
    }

    #[test]
    fn a_connection_is_use_once_it_has_lasted_or_has_logged_in() {
        let (nobody, there) = (seeing(&[]), seeing(&[to(80, 2)]));
        let young = last(&[(0, nobody.clone()), (5, there.clone()), (34, there.clone())], "").1;
        assert_eq!((signs(&young), young.unsettled.len()), (vec![], 1));
        let old = last(&[(0, nobody.clone()), (5, there.clone()), (35, there.clone())], "").1;
        assert_eq!((signs(&old), old.unsettled.len()), (vec![(Sign::Traffic, at(33))], 0));
        let login = Connection { login: true, ..to(22, 1) };
        let in_it = last(&[(0, nobody.clone()), (5, seeing(&[to(22, 0)])), (10, seeing(&[login]))], "").1;
        assert_eq!((signs(&in_it), in_it.logged_in.len()), (vec![(Sign::Traffic, at(9))], 1));
        // It stays so, though it is not looked for any more.
        let later = last(&[(0, nobody), (5, seeing(&[login])), (10, seeing(&[to(22, 6)]))], "").1;
        assert_eq!((signs(&later), later.logged_in.len()), (vec![(Sign::Traffic, at(4))], 0));
        // What was there before the first look may be of any age.
        assert_eq!(signs(&last(&[(100, there)], "").1), [(Sign::Traffic, at(98))]);
    }

    #[test]
    fn only_its_own_ports_count_and_only_if_heeded() {
        assert!(last(&[(100, seeing(&[to(5_432, 0)]))], "").1.evidence.is_empty());
        assert!(last(&[(100, seeing(&[to(22, 0)]))], "traffic=off").1.evidence.is_empty());
    }

    #[test]
    fn a_knock_at_ssh_that_came_to_nothing_is_told() {
        let (nobody, there) = (seeing(&[]), seeing(&[to(22, 0)]));
        let gone = last(&[(0, nobody.clone()), (5, there.clone()), (10, nobody.clone())], "").1;
        assert_eq!(gone.fruitless, [client(0).ip()]);
        let web = last(&[(0, nobody.clone()), (5, seeing(&[to(80, 0)])), (10, nobody.clone())], "").1;
        assert!(web.fruitless.is_empty(), "a page that was asked for");
        let long = last(&[(0, nobody.clone()), (5, there.clone()), (36, there.clone()), (40, nobody.clone())], "").1;
        assert!(long.fruitless.is_empty());
        let unknown = last(&[(5, there.clone()), (10, nobody.clone())], "").1;
        assert!(unknown.fruitless.is_empty(), "nobody knows how long it was there");
        let heeds = Heeds::default();
        let unasked = Rule { logins: false, ..rule(&heeds) };
        let before = follow(Some(&last(&[(0, nobody.clone())], "").0), &there, unasked, at(5)).0;
        assert!(follow(Some(&before), &nobody, rule(&heeds), at(10)).1.fruitless.is_empty(), "it may have logged in");
    }

    /// Looks before it is frozen, and while it is; what the last one shows.
    fn frozen(before: &[(u64, Look)], while_frozen: &[(u64, Look)]) -> (Track, Findings) {
        let heeds = Heeds::default();
        let mut track = (!before.is_empty()).then(|| last(before, "").0);
        let mut findings = Findings::default();
        for (second, look) in while_frozen {
            let rule = Rule { frozen: true, ..rule(&heeds) };
            let (next, found) = follow(track.as_ref(), look, rule, at(*second));
            (track, findings) = (Some(next), found);
        }
        (track.unwrap(), findings)
    }

    #[test]
    fn who_waits_for_what_is_frozen_is_told_as_long_as_he_does() {
        let with = |unread| seeing(&[Connection { unread, ..to(22, 0) }]);
        let waits = |before: &[(u64, Look)], frozen_looks: &[(u64, Look)]| frozen(before, frozen_looks).1.waiting.len();
        assert_eq!(waits(&[], &[(0, with(1))]), 1, "at the first look nobody knows when they came");
        assert_eq!(waits(&[(0, with(5))], &[(5, with(5))]), 0, "it had not read them before");
        assert_eq!(waits(&[(0, with(5))], &[(5, with(6)), (10, with(6))]), 1);
        assert_eq!(waits(&[(0, seeing(&[]))], &[(5, with(1))]), 1);
        assert_eq!(waits(&[(0, with(5))], &[(5, seeing(&[]))]), 0);
        assert!(last(&[(0, with(5)), (5, with(6))], "").1.waiting.is_empty(), "what runs reads them");
        let heeds = Heeds::default();
        let mute = |before: Option<&Track>| {
            let rule = Rule { frozen: true, demand: Demand::Connection, ..rule(&heeds) };
            follow(before, &with(0), rule, at(5))
        };
        let (track, found) = mute(Some(&last(&[(0, seeing(&[]))], "").0));
        assert_eq!(found.waiting.len(), 1, "it waits for the container to speak");
        assert_eq!(mute(Some(&track)).1.waiting.len(), 0, "and did so at the look before");
        assert_eq!(mute(None).1.waiting.len(), 1);
    }

    #[test]
    fn nobody_settles_while_it_is_frozen_and_old_work_is_over() {
        let (nobody, there) = (seeing(&[]), seeing(&[to(22, 0)]));
        let (track, found) =
            frozen(&[(0, nobody.clone())], &[(5, there.clone()), (30, there.clone()), (55, there.clone())]);
        assert!(found.evidence.is_empty() && found.unsettled.len() == 1 && !track.knows(client(0).ip(), at(60)));
        let heeds = Heeds::default();
        let on_again = follow(Some(&track), &there, rule(&heeds), at(84)).0;
        assert!(!on_again.knows(client(0).ip(), at(84)) && on_again.knows(client(0).ip(), at(85)));
        let known = frozen(&[(0, nobody), (5, there.clone()), (35, there.clone())], &[(40, there)]).0;
        assert!(known.knows(client(0).ip(), at(40)), "who was there before stays known");
        let worked = |seconds| Look { processor: Some(Duration::from_secs(seconds)), ..Look::default() };
        assert!(frozen(&[(0, worked(0)), (60, worked(60))], &[(65, worked(60))]).1.evidence.is_empty());
    }

    #[test]
    fn keys_count_from_when_they_were_typed() {
        let terminals = [90, 30].map(|quiet| Terminal { number: 0, quiet: Duration::from_secs(quiet) });
        let look = Look { terminals: terminals.to_vec(), ..Look::default() };
        assert_eq!(signs(&last(&[(100, look.clone())], "").1), [(Sign::Terminal, at(70))]);
        assert!(last(&[(100, look)], "terminal=off").1.evidence.is_empty());
    }

    #[test]
    fn work_counts_above_its_threshold_over_the_whole_window() {
        let worked = |processor_ms: u64, disk: u64| Look {
            processor: Some(Duration::from_millis(processor_ms)),
            disk: Some(disk),
            ..Look::default()
        };
        let over =
            |ms, disk, heeds| signs(&last(&[(0, worked(0, 0)), (30, worked(0, 0)), (60, worked(ms, disk))], heeds).1);
        assert_eq!(over(3_000, 0, ""), [], "five in a hundred are not more than that");
        assert_eq!(over(3_001, 0, ""), [(Sign::Processor, at(60))]);
        assert_eq!(over(3_001, 0, "processor=10%"), []);
        assert_eq!(over(60_000, 0, "processor=off"), []);
        assert_eq!(over(0, (1 << 20) * 60 + 1, ""), [(Sign::Disk, at(60))]);
        let early = last(&[(0, worked(0, 0)), (59, worked(59_000, 0))], "").1;
        assert!(early.evidence.is_empty(), "a burst is no work");
        let over_long_ago =
            [(0, worked(0, 0)), (60, worked(60_000, 0)), (120, worked(60_000, 0)), (180, worked(60_000, 0))];
        assert!(last(&over_long_ago, "").1.evidence.is_empty());
        let nothing_told = [(0, Look::default()), (60, Look::default())];
        assert!(last(&nothing_told, "").1.evidence.is_empty());
    }

    #[test]
    fn a_client_is_known_by_what_lasts() {
        let (nobody, there) = (seeing(&[]), seeing(&[to(22, 0)]));
        let track = last(&[(0, nobody.clone()), (5, there.clone())], "").0;
        assert!(!track.knows(client(0).ip(), at(34)) && track.may_log_in(at(34)));
        assert!(track.knows(client(0).ip(), at(35)) && !track.may_log_in(at(35)));
        assert!(track.has(client(40_000)) && !track.has(client(40_001)));
    }

    proptest! {
        /// No more is kept than the window needs, whatever is looked at and when.
        #[test]
        fn what_is_kept_is_bounded(steps in prop::collection::vec((1u64..200, 0u64..1_000), 1..60)) {
            let (mut track, mut now) = (None, 0);
            let heeds = Heeds::default();
            for (step, processor) in steps {
                now += step;
                let look = Look { processor: Some(Duration::from_secs(processor)), ..Look::default() };
                let (next, found) = follow(track.as_ref(), &look, rule(&heeds), at(now));
                prop_assert!(found.evidence.iter().all(|seen| seen.at <= at(now)));
                prop_assert!(next.samples.len() as u64 <= WINDOW.as_secs() + 2);
                track = Some(next);
            }
        }
    }
}
