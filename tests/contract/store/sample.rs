//! Things to keep.

use std::time::Duration;

use spindown::{
    model::{
        Activity, CheckIn, Container, ContainerId, EngineId, HostName, Name, Port, Protocol, Removal, Rungs, Stop,
        StopOrder, StoppedBy, Timeout, VolumeName, Wake,
    },
    store::Attempt,
};
use time::{OffsetDateTime, macros::datetime};

/// A date with nanoseconds.
pub const DATE: OffsetDateTime = datetime!(2026-03-04 05:06:07.123456789 UTC);

pub fn id(n: u64) -> ContainerId {
    ContainerId::from_bits(n.into())
}

/// A container of which everything is set, not written yet.
pub fn container(n: u64) -> Container {
    Container {
        id: id(n),
        version: 0,
        host: HostName::local(),
        engine_id: EngineId::parse(&format!("{n:064x}")).unwrap(),
        name: Name::parse(&format!("sandbox_{n}")).unwrap(),
        image: "spindown/ssh:latest".into(),
        ports: vec![
            Port { container: 22, host: 20_000, protocol: Protocol::Tcp },
            Port { container: 53, host: 20_001, protocol: Protocol::Udp },
        ],
        address: Some([10, 99, 0, 2].into()),
        owner: "Ada \"\u{1f9ea}\" Lovelace\n".into(),
        labels: [("course".into(), "cs{101}".into()), (String::new(), "\0".into())].into(),
        idle_timeout: Timeout::After(Duration::from_millis(1_500)),
        wake: Wake::Idle,
        created_at: DATE,
        ssh_host_keys: vec!["SHA256:abc".into()],
        rungs: Rungs::default(),
        kept_until: None,
        freezing: None,
        stopping: Some(StopOrder { by: StoppedBy::User, at: DATE, run: Some(DATE) }),
        stopped: Some(Stop { by: StoppedBy::Host, at: DATE, ordered: false }),
        removing: Some(Removal { volumes: [VolumeName::parse("home").unwrap()].into() }),
    }
}

/// Last used `active` nanoseconds after the date, with a report of `connections` at `check_in`.
pub fn activity(active: i64, check_in: Option<(i64, u64)>) -> Activity {
    let at = |nanos| DATE + time::Duration::nanoseconds(nanos);
    Activity {
        last_active_at: at(active),
        check_in: check_in.map(|(nanos, connections)| CheckIn { at: at(nanos), connections }),
    }
}

/// An attempt to make container `n`, begun `seconds` after the date.
pub fn attempt(n: u64, seconds: i64) -> Attempt {
    Attempt { id: id(n), digest: format!("digest of {n}"), at: DATE + time::Duration::seconds(seconds) }
}
