//! What every store does. Each case gets one state of its own, through one or more stores.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use spindown::model::{Activity, Claim, ContainerId, HostName, Kind, Timeout};
use spindown::store::backup::Contents;
use time::OffsetDateTime;

use super::{
    Fixture, Whole,
    sample::{DATE, activity, attempt, container, id},
};

/// A test for each case over the adapter that `$fresh` makes.
macro_rules! every_case {
    ($fresh:path) => {
        every_case! { $fresh:
            it_answers
            what_was_never_put_is_not_there
            a_container_comes_back_as_it_was_put
            every_put_gives_the_next_version
            a_put_over_another_version_is_refused
            of_racing_puts_one_wins_each_version
            removing_forgets_container_and_activity
            an_activity_comes_back_as_it_was
            merging_keeps_the_later_of_each
            merging_in_any_order_is_the_same
            many_activities_are_merged_at_once
            claims_are_held_until_released
            claims_are_all_or_none
            hosts_are_apart
            of_racing_claims_none_is_held_twice
            an_attempt_is_begun_once
            an_attempt_that_is_out_of_date_is_replaced
            an_attempt_is_abandoned_only_by_its_own
            of_racing_attempts_one_begins
            any_text_is_a_key
            what_is_exported_is_imported
            nothing_is_imported_over_something_unless_it_is_to_be_replaced
            an_export_is_of_one_moment
        }
    };
    ($fresh:path: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::contract::store::cases::$case(&$fresh().await).await;
            }
        )*
    };
}

/// How many tasks race.
const RACERS: usize = 50;

pub async fn it_answers(on: &Fixture) {
    on.store(0).ping().await.unwrap();
}

pub async fn what_was_never_put_is_not_there(on: &Fixture) {
    let (store, host) = (on.store(0), HostName::local());
    assert_eq!(store.containers().await.unwrap(), []);
    assert_eq!(store.container(&id(1)).await.unwrap(), None);
    assert_eq!(store.activities().await.unwrap(), []);
    assert_eq!(store.activity(&id(1)).await.unwrap(), None);
    assert_eq!(store.claims(&host).await.unwrap(), []);
    store.remove_container(&id(1)).await.unwrap();
    store.release(&host, &id(1)).await.unwrap();
    store.abandon_attempt("key", &id(1)).await.unwrap();
    store.merge_activities(&[]).await.unwrap();
    assert_eq!(store.claim(&host, &[], &id(1)).await.unwrap(), None);
}

pub async fn a_container_comes_back_as_it_was_put(on: &Fixture) {
    let full = container(1);
    let mut bare = container(2);
    bare.ports.clear();
    bare.labels.clear();
    bare.ssh_host_keys.clear();
    (bare.address, bare.stopping, bare.stopped, bare.removing) = (None, None, None, None);
    bare.idle_timeout = Timeout::Never;
    for container in [&mut bare, &mut full.clone()] {
        container.version = on.store(0).put_container(container).await.unwrap();
        assert_eq!(on.store(1).container(&container.id).await.unwrap().as_ref(), Some(&*container));
    }
    let mut all = on.store(1).containers().await.unwrap();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    bare.version = 1;
    assert_eq!(all, [spindown::model::Container { version: 1, ..full }, bare]);
}

pub async fn every_put_gives_the_next_version(on: &Fixture) {
    let mut container = container(1);
    for version in 1..=5 {
        container.owner = format!("owner {version}");
        container.version = on.store(version).put_container(&container).await.unwrap();
        assert_eq!(container.version, version as u64);
        assert_eq!(on.store(version + 1).container(&container.id).await.unwrap().as_ref(), Some(&container));
    }
}

pub async fn a_put_over_another_version_is_refused(on: &Fixture) {
    let store = on.store(0);
    let at = |version| spindown::model::Container { version, owner: "late".into(), ..container(1) };
    for version in [1, 7, u64::MAX] {
        assert_eq!(
            store.put_container(&at(version)).await.unwrap_err().kind(),
            Kind::Conflict,
            "{version} over nothing"
        );
    }
    assert_eq!(store.containers().await.unwrap(), []);
    let mut stored = container(1);
    for _ in 0..2 {
        stored.version = store.put_container(&stored).await.unwrap();
    }
    for version in [0, 1, 3, u64::MAX] {
        assert_eq!(store.put_container(&at(version)).await.unwrap_err().kind(), Kind::Conflict, "{version} over 2");
    }
    assert_eq!(store.container(&stored.id).await.unwrap(), Some(stored));
}

pub async fn of_racing_puts_one_wins_each_version(on: &Fixture) {
    for version in 0..10 {
        let racers = (0..RACERS).map(|n| {
            let store = on.store(n);
            let mine = spindown::model::Container { version, owner: n.to_string(), ..container(1) };
            tokio::spawn(async move { (n, store.put_container(&mine).await) })
        });
        let results = join_all(racers).await.into_iter().map(Result::unwrap);
        let (won, lost): (Vec<_>, Vec<_>) = results.partition(|(_, result)| result.is_ok());
        assert_eq!(won.len(), 1, "version {version}");
        assert!(lost.iter().all(|(_, result)| result.as_ref().unwrap_err().kind() == Kind::Conflict));
        let stored = on.store(0).container(&id(1)).await.unwrap().unwrap();
        assert_eq!((stored.owner, stored.version), (won[0].0.to_string(), version + 1));
    }
}

pub async fn removing_forgets_container_and_activity(on: &Fixture) {
    let (store, host) = (on.store(0), HostName::local());
    let used = activity(0, None);
    for n in [1, 2] {
        store.put_container(&container(n)).await.unwrap();
        store.merge_activities(&[(id(n), used)]).await.unwrap();
    }
    store.claim(&host, &[Claim::Port(20_000)], &id(1)).await.unwrap();
    store.remove_container(&id(1)).await.unwrap();
    let other = on.store(1);
    assert_eq!(other.container(&id(1)).await.unwrap(), None);
    assert_eq!(other.activity(&id(1)).await.unwrap(), None);
    assert_eq!(other.containers().await.unwrap().len(), 1);
    assert_eq!(other.activities().await.unwrap(), [(id(2), used)]);
    assert_eq!(other.claims(&host).await.unwrap().len(), 1, "what it claimed is given back on its own");
    store.remove_container(&id(1)).await.unwrap();
    assert_eq!(store.put_container(&container(1)).await.unwrap(), 1, "it can come again");
}

pub async fn an_activity_comes_back_as_it_was(on: &Fixture) {
    let kept = [activity(1, None), activity(2, Some((3, 0))), activity(-7, Some((i64::MAX / 4, u64::MAX)))];
    for (n, activity) in kept.into_iter().enumerate() {
        let id = id(n as u64);
        on.store(0).merge_activities(&[(id.clone(), activity)]).await.unwrap();
        assert_eq!(on.store(1).activity(&id).await.unwrap(), Some(activity));
    }
    assert_eq!(on.store(1).activities().await.unwrap().len(), kept.len());
}

pub async fn merging_keeps_the_later_of_each(on: &Fixture) {
    // Each merged over all before it; each differs in what a double would not tell apart.
    let big = 1 << 53;
    for (merged, expected) in [
        (activity(10, None), activity(10, None)),
        (activity(9, Some((5, 1))), activity(10, Some((5, 1)))),
        (activity(11, None), activity(11, Some((5, 1)))),
        (activity(0, Some((4, 9))), activity(11, Some((5, 1)))),
        (activity(0, Some((5, 0))), activity(11, Some((5, 1)))),
        (activity(0, Some((5, 3))), activity(11, Some((5, 3)))),
        (activity(0, Some((5, 20))), activity(11, Some((5, 20)))),
        (activity(0, Some((5, 9))), activity(11, Some((5, 20)))),
        (activity(12, Some((6, 0))), activity(12, Some((6, 0)))),
        (activity(12, Some((6, big + 1))), activity(12, Some((6, big + 1)))),
        (activity(12, Some((6, big))), activity(12, Some((6, big + 1)))),
    ] {
        on.store(0).merge_activities(&[(id(1), merged)]).await.unwrap();
        assert_eq!(on.store(1).activity(&id(1)).await.unwrap(), Some(expected), "{merged:?}");
    }
}

pub async fn merging_in_any_order_is_the_same(on: &Fixture) {
    // No two of the 160 are alike, and neighbours are one nanosecond or one connection apart.
    let all: Vec<(ContainerId, Activity)> = (0..160_u64)
        .map(|n| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let check_in = (n % 3 != 0).then_some(((mixed % 7).cast_signed(), mixed % 5));
            (id(n % 4), activity((mixed % 13).cast_signed(), check_in))
        })
        .collect();
    let mut expected: BTreeMap<ContainerId, Activity> = BTreeMap::new();
    for (id, activity) in &all {
        let merged = expected.get(id).map_or(*activity, |known| known.merge(*activity));
        expected.insert(id.clone(), merged);
    }
    let racers = all.chunks(7).enumerate().map(|(n, chunk)| {
        let (store, chunk) = (on.store(n), chunk.to_vec());
        tokio::spawn(async move {
            store.merge_activities(&chunk).await.unwrap();
            store.merge_activities(&chunk).await.unwrap();
        })
    });
    join_all(racers).await.into_iter().for_each(Result::unwrap);
    let stored: BTreeMap<_, _> = on.store(0).activities().await.unwrap().into_iter().collect();
    assert_eq!(stored, expected);
}

pub async fn many_activities_are_merged_at_once(on: &Fixture) {
    let all: Vec<_> = (0..3_000).map(|n| (id(n), activity(n.cast_signed(), Some((0, n))))).collect();
    on.store(0).merge_activities(&all).await.unwrap();
    let mut stored = on.store(1).activities().await.unwrap();
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(stored, all);
}

pub async fn claims_are_held_until_released(on: &Fixture) {
    let (store, other, host) = (on.store(0), on.store(1), HostName::local());
    let mine = [Claim::Port(20_000), Claim::Port(20_001), Claim::Address([10, 99, 0, 2].into())];
    assert_eq!(store.claim(&host, &mine, &id(1)).await.unwrap(), None);
    assert_eq!(store.claim(&host, &mine, &id(1)).await.unwrap(), None, "its own are no obstacle");
    for claim in mine {
        assert_eq!(other.claim(&host, &[claim], &id(2)).await.unwrap(), Some(claim));
    }
    assert_eq!(other.claim(&host, &[Claim::Port(20_002)], &id(2)).await.unwrap(), None);
    let mut held = other.claims(&host).await.unwrap();
    held.sort();
    let expected = [(mine[0], id(1)), (mine[1], id(1)), (Claim::Port(20_002), id(2)), (mine[2], id(1))];
    assert_eq!(held, expected);
    store.release(&host, &id(1)).await.unwrap();
    assert_eq!(other.claims(&host).await.unwrap(), [(Claim::Port(20_002), id(2))]);
    assert_eq!(other.claim(&host, &mine, &id(2)).await.unwrap(), None);
}

pub async fn claims_are_all_or_none(on: &Fixture) {
    let (store, host) = (on.store(0), HostName::local());
    let port = Claim::Port;
    store.claim(&host, &[port(3), port(5)], &id(1)).await.unwrap();
    let refused = store.claim(&host, &[port(1), port(5), port(3), port(4)], &id(2)).await.unwrap();
    assert_eq!(refused, Some(port(5)), "the first in the caller's order");
    let mut held = store.claims(&host).await.unwrap();
    held.sort();
    assert_eq!(held, [(port(3), id(1)), (port(5), id(1))]);
    assert_eq!(store.claim(&host, &[port(3), port(4), port(4)], &id(1)).await.unwrap(), None);
    assert_eq!(store.claims(&host).await.unwrap().len(), 3);
}

pub async fn hosts_are_apart(on: &Fixture) {
    let store = on.store(0);
    // One name begins another; one holds what separates names elsewhere.
    let hosts = ["a", "a\0", "a:b", "ab", ""].map(HostName::new);
    for (n, host) in hosts.iter().enumerate() {
        assert_eq!(store.claim(host, &[Claim::Port(1)], &id(n as u64)).await.unwrap(), None);
    }
    store.release(&hosts[0], &id(0)).await.unwrap();
    store.release(&hosts[0], &id(1)).await.unwrap();
    assert_eq!(store.claims(&hosts[0]).await.unwrap(), []);
    for (n, host) in hosts.iter().enumerate().skip(1) {
        assert_eq!(store.claims(host).await.unwrap(), [(Claim::Port(1), id(n as u64))]);
    }
}

pub async fn of_racing_claims_none_is_held_twice(on: &Fixture) {
    let host = HostName::local();
    // Each wants four neighbouring ports, three of which the next one wants too; a few rounds with releases between.
    for round in 0..5 {
        let racers = (0..RACERS).map(|n| {
            let (store, host) = (on.store(n), host.clone());
            let first = (n as u16 * 7 + round) % 40;
            let wanted: Vec<Claim> = (first..first + 4).map(Claim::Port).collect();
            let holder = id(n as u64);
            tokio::spawn(async move {
                let refused = store.claim(&host, &wanted, &holder).await.unwrap();
                (holder, wanted, refused)
            })
        });
        let results: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let held: BTreeMap<Claim, ContainerId> = on.store(0).claims(&host).await.unwrap().into_iter().collect();
        let mut expected = BTreeMap::new();
        for (holder, wanted, refused) in &results {
            match refused {
                None => {
                    for claim in wanted {
                        assert_eq!(expected.insert(*claim, holder.clone()), None, "{claim:?} is held twice");
                    }
                }
                Some(claim) => assert!(wanted.contains(claim)),
            }
        }
        assert!(!expected.is_empty());
        assert_eq!(held, expected);
        for holder in expected.values().collect::<BTreeSet<_>>() {
            on.store(1).release(&host, holder).await.unwrap();
        }
        assert_eq!(on.store(0).claims(&host).await.unwrap(), []);
    }
}

pub async fn an_attempt_is_begun_once(on: &Fixture) {
    let store = on.store(0);
    assert_eq!(store.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap(), None);
    assert_eq!(on.store(1).begin_attempt("key", &attempt(2, 5), DATE).await.unwrap(), Some(attempt(1, 0)));
    assert_eq!(store.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap(), Some(attempt(1, 0)));
    assert_eq!(store.begin_attempt("another key", &attempt(3, 0), DATE).await.unwrap(), None);
}

pub async fn an_attempt_that_is_out_of_date_is_replaced(on: &Fixture) {
    let store = on.store(0);
    let just_after = DATE + time::Duration::nanoseconds(1);
    store.begin_attempt("key", &attempt(1, 0), OffsetDateTime::UNIX_EPOCH).await.unwrap();
    store.begin_attempt("another key", &attempt(9, 60), OffsetDateTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(store.begin_attempt("key", &attempt(2, 5), just_after).await.unwrap(), None);
    assert_eq!(store.begin_attempt("key", &attempt(3, 9), just_after).await.unwrap(), Some(attempt(2, 5)));
    assert_eq!(store.begin_attempt("another key", &attempt(3, 9), DATE).await.unwrap(), Some(attempt(9, 60)));
}

pub async fn an_attempt_is_abandoned_only_by_its_own(on: &Fixture) {
    let store = on.store(0);
    store.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap();
    store.abandon_attempt("key", &id(2)).await.unwrap();
    store.abandon_attempt("another key", &id(1)).await.unwrap();
    assert_eq!(store.begin_attempt("key", &attempt(3, 0), DATE).await.unwrap(), Some(attempt(1, 0)));
    on.store(1).abandon_attempt("key", &id(1)).await.unwrap();
    assert_eq!(store.begin_attempt("key", &attempt(3, 0), DATE).await.unwrap(), None);
}

pub async fn of_racing_attempts_one_begins(on: &Fixture) {
    // The second round finds one that is out of date.
    for round in 0..2 {
        let valid_from = DATE + time::Duration::seconds(round);
        let racers = (0..RACERS).map(|n| {
            let (store, mine) = (on.store(n), attempt(n as u64, round));
            tokio::spawn(async move { (mine.clone(), store.begin_attempt("key", &mine, valid_from).await.unwrap()) })
        });
        let results = join_all(racers).await.into_iter().map(Result::unwrap);
        let (began, found): (Vec<_>, Vec<_>) = results.partition(|(_, found)| found.is_none());
        assert_eq!(began.len(), 1);
        assert!(found.iter().all(|(_, found)| found.as_ref() == Some(&began[0].0)));
    }
}

pub async fn any_text_is_a_key(on: &Fixture) {
    let store = on.store(0);
    let long = "k".repeat(100_000);
    for (n, key) in ["", " ", "{a}", "a:b", "\0", "\u{1f9ea}", &long].into_iter().enumerate() {
        let begun = attempt(n as u64, 0);
        assert_eq!(store.begin_attempt(key, &begun, DATE).await.unwrap(), None);
        assert_eq!(store.begin_attempt(key, &attempt(99, 0), DATE).await.unwrap(), Some(begun));
    }
}

/// Fills a store with something of everything.
async fn fill(store: &dyn Whole, from: u64) {
    let other = HostName::new("other");
    for n in from..from + 3 {
        let mut container = container(n);
        container.version = store.put_container(&container).await.unwrap();
        store.put_container(&container).await.unwrap();
        store.merge_activities(&[(id(n), activity(1, (n % 2 == 0).then_some((2, n))))]).await.unwrap();
        let port = Claim::Port(u16::try_from(n).unwrap());
        assert_eq!(store.claim(&HostName::local(), &[port], &id(n)).await.unwrap(), None);
        assert_eq!(store.claim(&other, &[port, Claim::Address([10, 0, 0, 1].into())], &id(from)).await.unwrap(), None);
        assert_eq!(store.begin_attempt(&format!("key {n}\n"), &attempt(n, 0), DATE).await.unwrap(), None);
    }
}

/// All of it, in an order of its own.
async fn all(store: &dyn Whole) -> Contents {
    let mut all = store.export().await.unwrap();
    all.containers.sort_by(|a, b| a.id.cmp(&b.id));
    all.activities.sort_by(|a, b| a.0.cmp(&b.0));
    all.claims.sort();
    all.attempts.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

pub async fn what_is_exported_is_imported(on: &Fixture) {
    let store = on.store(0);
    assert_eq!(store.export().await.unwrap(), Contents::default());
    store.import(&Contents::default(), false).await.unwrap();
    fill(&*store, 1).await;
    let before = all(&*store).await;
    assert_eq!(
        (before.containers.len(), before.activities.len(), before.claims.len(), before.attempts.len()),
        (3, 3, 7, 3)
    );
    store.import(&Contents::default(), true).await.unwrap();
    assert_eq!(store.export().await.unwrap(), Contents::default());
    on.store(1).import(&before, false).await.unwrap();
    assert_eq!(all(&*store).await, before);
    // It is not only shown: each part is found where it is looked for.
    let mut first = store.container(&id(1)).await.unwrap().unwrap();
    assert_eq!(first.version, 2);
    first.version = store.put_container(&first).await.unwrap();
    assert_eq!(store.activity(&id(2)).await.unwrap(), Some(activity(1, Some((2, 2)))));
    assert_eq!(store.claim(&HostName::local(), &[Claim::Port(2)], &id(1)).await.unwrap(), Some(Claim::Port(2)));
    assert_eq!(store.begin_attempt("key 3\n", &attempt(9, 5), DATE).await.unwrap(), Some(attempt(3, 0)));
    assert_eq!(store.unreadable().await.unwrap(), []);
}

pub async fn nothing_is_imported_over_something_unless_it_is_to_be_replaced(on: &Fixture) {
    let store = on.store(0);
    fill(&*store, 1).await;
    let first = all(&*store).await;
    store.import(&Contents::default(), true).await.unwrap();
    // Any part of it is something.
    for n in 0..4 {
        let mut part = Contents::default();
        match n {
            0 => part.containers.clone_from(&first.containers),
            1 => part.activities.clone_from(&first.activities),
            2 => part.claims.clone_from(&first.claims),
            _ => part.attempts.clone_from(&first.attempts),
        }
        store.import(&part, true).await.unwrap();
        let error = store.import(&first, false).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains("--replace"), "{error}");
        assert_eq!(all(&*store).await, part, "a refused import changes nothing");
    }
    store.import(&Contents::default(), true).await.unwrap();
    fill(&*store, 5).await;
    store.import(&first, true).await.unwrap();
    assert_eq!(all(&*store).await, first, "nothing of what was there is left");
}

/// A claim and a record that one task changes in step are never exported out of step by more than the step between.
pub async fn an_export_is_of_one_moment(on: &Fixture) {
    let writer = {
        let store = on.store(0);
        tokio::spawn(async move {
            for n in 1..=60_u16 {
                assert_eq!(store.claim(&HostName::local(), &[Claim::Port(n)], &id(n.into())).await.unwrap(), None);
                store.put_container(&container(n.into())).await.unwrap();
            }
        })
    };
    let mut last = 0;
    while last < 60 {
        let seen = on.store(1).export().await.unwrap();
        let (claims, containers) = (seen.claims.len(), seen.containers.len());
        assert!(claims == containers || claims == containers + 1, "{claims} claims, {containers} containers");
        assert!(containers >= last);
        last = containers;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}
