//! What is written is read back; whatever is not whole is refused.

use std::time::Duration;

use time::macros::datetime;

use super::*;
use crate::model::{EngineId, Name, Rungs, Timeout, Wake};

fn head() -> Head {
    Head::new("spindown", datetime!(2026-03-04 05:06:07.000000089 UTC))
}

fn contents() -> Contents {
    let id = ContainerId::from_bits(7);
    let at = datetime!(2026-03-04 05:06:07.123456789 UTC);
    let container = Container {
        id: id.clone(),
        version: u64::MAX,
        host: HostName::local(),
        engine_id: EngineId::parse(&"a".repeat(64)).unwrap(),
        name: Name::parse("web").unwrap(),
        image: "image\n\"".into(),
        ports: Vec::new(),
        address: None,
        owner: "admin".into(),
        labels: [("a\u{1f9ea}".into(), "\0".into())].into(),
        idle_timeout: Timeout::After(Duration::new(u64::MAX, 5)),
        wake: Wake::Never,
        created_at: at,
        ssh_host_keys: Vec::new(),
        rungs: Rungs::default(),
        kept_until: None,
        freezing: None,
        stopping: None,
        stopped: None,
        removing: None,
    };
    Contents {
        containers: vec![container],
        activities: vec![(id.clone(), Activity { last_active_at: at, check_in: None })],
        claims: vec![(HostName::local(), Claim::Port(1), id.clone()), (HostName::new("b"), Claim::Port(1), id.clone())],
        attempts: vec![(AttemptKey::of("any\nkey"), Attempt { id, digest: "d".into(), at })],
    }
}

#[test]
fn a_backup_is_read_back_as_it_was_written() {
    for contents in [contents(), Contents::default()] {
        let text = write(&head(), &contents).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap(), (head(), contents));
    }
}

#[test]
fn a_backup_that_was_cut_off_anywhere_or_changed_is_refused() {
    let text = write(&head(), &contents()).unwrap();
    for length in 0..text.len() {
        assert_eq!(read(&text.as_bytes()[..length]).unwrap_err().kind(), Kind::Invalid, "{length} bytes");
    }
    for (from, to) in
        [("port/1", "port/2"), ("admin", "nobody"), ("05:06", "05:07"), ("\"records\":5", "\"records\":4")]
    {
        let error = read(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(error.message().contains("damaged"), "{from}: {error}");
    }
    let lines: Vec<_> = text.lines().collect();
    let twice = [&lines[..], &lines[1..]].concat().join("\n") + "\n";
    assert!(read(twice.as_bytes()).is_err());
}

#[test]
fn a_backup_of_a_newer_spindown_is_refused_with_both_versions() {
    let newer = "{\"spindown_backup\":7,\"else\":[]}\nwhatever\n";
    let error = read(newer.as_bytes()).unwrap_err();
    assert!(error.message().contains("version 7") && error.message().contains("up to version 2"), "{error}");
}

#[test]
fn what_is_no_backup_is_told_so() {
    for bytes in [&b""[..], b"notes", b"{}\n", b"[]\n[]\n", b"\xff\xfe\n", &[0; 100]] {
        assert_eq!(read(bytes).unwrap_err().kind(), Kind::Invalid);
    }
}
