//! Whatever the model can hold comes back as it was; whatever else lies there is refused, never guessed at.

use proptest::{collection, option, prelude::*, sample::select};
use time::macros::datetime;

use super::*;

fn date() -> impl Strategy<Value = OffsetDateTime> {
    let seconds = datetime!(0001-01-01 0:00 UTC).unix_timestamp()..=datetime!(9999-12-31 23:59:59 UTC).unix_timestamp();
    (seconds, 0..1_000_000_000_i64).prop_map(|(seconds, nanos)| {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap() + time::Duration::nanoseconds(nanos)
    })
}

fn id() -> impl Strategy<Value = ContainerId> {
    any::<u128>().prop_map(ContainerId::from_bits)
}

fn by() -> impl Strategy<Value = StoppedBy> {
    select(StoppedBy::ALL.to_vec())
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    (any::<u16>(), any::<u16>(), protocol).prop_map(|(container, host, protocol)| Port { container, host, protocol })
}

fn rungs() -> impl Strategy<Value = Rungs> {
    let span = || option::of(option::of((1..1_000_000_u64).prop_map(Duration::from_secs)));
    let span = move || span().prop_map(|given| given.map(|span| span.map_or(Timeout::Never, Timeout::After)));
    let tables = select(vec![None, Some(""), Some("0 9 * * 1-5 for 8h in Europe/Berlin; 30 7 1 * * for 1h")]);
    let evidence = select(vec!["", "processor=12.5% disk=off", "traffic=off terminal=off connections=auto"]);
    (span(), span(), span(), span(), tables, evidence).prop_map(|(freeze, delete, age, warn, tables, evidence)| {
        let mut rungs = Rungs::default();
        (rungs.freeze_after, rungs.delete_after, rungs.max_age, rungs.warn_before) = (freeze, delete, age, warn);
        rungs.set("evidence", evidence).unwrap();
        if let Some(tables) = tables {
            rungs.set("keep_awake", tables).unwrap();
        }
        rungs
    })
}

fn container() -> impl Strategy<Value = Container> {
    let named = (id(), any::<u64>(), any::<String>(), any::<[u128; 2]>(), "[^/].{0,80}", any::<String>());
    let held = (
        collection::vec(port(), 0..5),
        option::of(any::<Ipv4Addr>()),
        any::<String>(),
        collection::btree_map(any::<String>(), any::<String>(), 0..4),
        (option::of(any::<Duration>()), select(Wake::ALL.to_vec())),
    );
    let lived = (
        date(),
        collection::vec(any::<String>(), 0..3),
        option::of((by(), date(), option::of(date()))),
        option::of((by(), date(), any::<bool>())),
        option::of(collection::btree_set("[a-zA-Z0-9][a-zA-Z0-9_.-]{1,20}", 0..3)),
        (rungs(), option::of(date()), option::of((by(), date(), option::of(date())))),
    );
    (named, held, lived).prop_map(|((id, version, host, engine, name, image), held, lived)| Container {
        id,
        version,
        host: HostName::new(host),
        engine_id: EngineId::parse(&format!("{:032x}{:032x}", engine[0], engine[1])).unwrap(),
        name: Name::from_engine(&name),
        image,
        ports: held.0,
        address: held.1,
        owner: held.2,
        labels: held.3,
        idle_timeout: held.4.0.map_or(Timeout::Never, Timeout::After),
        wake: held.4.1,
        rungs: lived.5.0,
        kept_until: lived.5.1,
        freezing: lived.5.2.map(|(by, at, run)| Freeze { by, at, run }),
        created_at: lived.0,
        ssh_host_keys: lived.1,
        stopping: lived.2.map(|(by, at, run)| StopOrder { by, at, run }),
        stopped: lived.3.map(|(by, at, ordered)| Stop { by, at, ordered }),
        removing: lived
            .4
            .map(|volumes| Removal { volumes: volumes.iter().map(|name| VolumeName::parse(name).unwrap()).collect() }),
    })
}

fn read_back<T: Kept>(kept: &T) -> T {
    read("it", write(kept).unwrap().as_bytes()).unwrap()
}

proptest! {
    #[test]
    fn a_container_comes_back_as_it_was(container in container()) {
        prop_assert_eq!(read_back(&container), container);
    }

    #[test]
    fn an_activity_comes_back_as_it_was(
        last_active_at in date(),
        check_in in option::of((date(), any::<u64>()).prop_map(|(at, connections)| CheckIn { at, connections })),
    ) {
        let activity = Activity { last_active_at, check_in };
        prop_assert_eq!(read_back(&activity), activity);
    }

    #[test]
    fn an_attempt_comes_back_as_it_was(id in id(), digest in any::<String>(), at in date()) {
        let attempt = Attempt { id, digest, at };
        prop_assert_eq!(read_back(&attempt), attempt);
    }

    #[test]
    fn a_claim_comes_back_as_it_was(port in any::<u16>(), address in any::<Ipv4Addr>()) {
        for claim in [Claim::Port(port), Claim::Address(address)] {
            prop_assert_eq!(read_claim(&claim_key(&claim)).unwrap(), claim);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in collection::vec(any::<u8>(), 0..100), text in ".{0,40}") {
        let _ = read::<Container>("it", &bytes);
        let _ = read_claim(&text);
    }
}

#[test]
fn a_date_with_an_odd_offset_keeps_its_moment() {
    let at = datetime!(2026-05-04 03:02:01.000000009 +1:02:03);
    let activity = Activity { last_active_at: at, check_in: None };
    assert_eq!(read_back(&activity).last_active_at, at);
}

#[test]
fn a_record_of_a_newer_spindown_is_refused_with_what_to_do() {
    let error = read::<Activity>("7", br#"{"v":3,"whatever":[]}"#).unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert!(error.message().contains("upgrade this server"), "{error}");
}

#[test]
fn a_record_of_the_first_version_is_read_and_written_as_one_of_the_second() {
    let first = r#"{"v":1,"id":"0123456789abcdef0123456789abcdef","version":3,"host":"local",
        "engine_id":"89ababababababababababababababababababababababababababababababab","name":"hungry_bell",
        "image":"spindown/ssh","ports":[{"container":22,"host":20000,"protocol":"tcp"}],"address":"10.99.0.2",
        "owner":"admin","labels":{},"idle_timeout":{"secs":9000,"nanos":0},"created_at":"2026-03-04T05:06:07.123456789Z",
        "ssh_host_keys":[],"stopping":null,"stopped":{"by":"idle","at":"2026-03-04T08:00:00Z","ordered":true}}"#;
    let container: Container = read("it", first.as_bytes()).unwrap();
    assert_eq!((container.version, container.idle_timeout.seconds(), container.wake), (3, Some(9_000), Wake::Always));
    assert_eq!((&container.rungs, container.kept_until, container.freezing), (&Rungs::default(), None, None));
    assert_eq!(container.stopped.map(|s| (s.by, s.ordered)), Some((StoppedBy::Idle, true)));
    let second = write(&container).unwrap();
    assert!(second.starts_with(r#"{"v":2,"#), "{second}");
    assert_eq!(read::<Container>("it", second.as_bytes()).unwrap(), container);
}

#[test]
fn a_damaged_record_is_refused_by_name() {
    let good = r#"{"v":1,"last_active_at":"2026-01-01T00:00:00Z","check_in":null}"#;
    assert!(read::<Activity>("7", good.as_bytes()).is_ok());
    for bad in
        ["", "{", "[]", "null", r#"{"v":1}"#, r#"{"v":0}"#, &good.replace('Z', ""), &good.replace("\"v\":1,", "")]
    {
        let error = read::<Activity>("7", bad.as_bytes()).unwrap_err();
        assert!(error.message().contains("activity of 7") && error.message().contains("damaged"), "{bad}: {error}");
    }
    for bad in ["", "port", "port/", "port/65536", "address/1.2.3", "door/1"] {
        assert!(read_claim(bad).is_err(), "{bad}");
    }
}
