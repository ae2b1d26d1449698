//! Files of older and newer formats, files that are none, and backups of a file that a server has open.

use std::{io::Read, os::unix::net::UnixStream};

use spindown::model::StoppedBy;
use spindown::store::{
    AttemptStore, ClaimStore,
    backup::{self, BackupStore, Head, Table},
};

use super::*;

/// A file as Spindown wrote it in format 1, with two containers in it.
const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1.redb.gz");
/// One of the two: its timeout and labels were changed, and it reported two connections.
const KEPT: &str = "d08bd3ac1d2797d3aaa1df46ff3d3f53";
/// What the attempt to make it was kept under.
const KEY: &str = "69eded33b4be8dd7d1c920b75f2b957f19610ebee188077aed7be15ceceee073";
/// A backup of the same, as it was first written.
const BACKUP_1: &str = include_str!("../../../fixtures/backup-1.jsonl");

fn file(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("spindown.redb")).unwrap()
}

fn with_file(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spindown.redb"), bytes).unwrap();
    folder
}

fn of_format_1() -> tempfile::TempDir {
    let unpacked = Command::new("gzip").args(["-dc", FORMAT_1]).output().unwrap();
    assert!(unpacked.status.success());
    with_file(&unpacked.stdout)
}

#[tokio::test]
async fn a_file_of_an_older_format_opens_with_all_it_held() {
    let folder = of_format_1();
    // Twice: as the older Spindown left it, and as this one did.
    for _ in 0..2 {
        let store = Embedded::open(folder.path()).unwrap();
        let mut containers = store.containers().await.unwrap();
        containers.sort_by_key(|c| c.name.to_string());
        let [kept, stopped] = &containers[..] else { panic!("{containers:?}") };
        assert_eq!((kept.name.as_str(), kept.id.as_str()), ("sdfix-kept", KEPT));
        assert_eq!((kept.idle_timeout.seconds(), kept.labels["course"].as_str()), (Some(7_200), "logic"));
        assert_eq!((kept.stopped, stopped.stopped.map(|s| s.by)), (None, Some(StoppedBy::User)));
        let used = store.activity(&kept.id).await.unwrap().unwrap();
        assert_eq!(used.check_in.unwrap().connections, 2);
        assert_eq!(store.activities().await.unwrap().len(), 2);
        for container in &containers {
            for claim in container.claims() {
                assert_eq!(store.claim(&container.host, &[claim], &id(9)).await.unwrap(), Some(claim));
            }
        }
        let again = store.begin_attempt(KEY, &attempt(9, 1), DATE).await.unwrap();
        assert_eq!(again.map(|a| a.id), Some(kept.id.clone()));
    }
}

#[tokio::test]
async fn a_backup_of_the_first_version_holds_what_the_file_did() {
    let (old, new) = (of_format_1(), tempfile::tempdir().unwrap());
    let (head, contents) = backup::read(BACKUP_1.as_bytes()).unwrap();
    assert_eq!((head.spindown_backup, head.instance.as_str()), (1, "sdfix"));
    let store = Embedded::open(new.path()).unwrap();
    store.import(&contents, false).await.unwrap();
    let opened = Embedded::open(old.path()).unwrap();
    assert_eq!(store.export().await.unwrap(), opened.export().await.unwrap());
    let written = backup::write(&Head::new(&*head.instance, head.made_at), &contents).unwrap();
    assert_eq!(backup::read(written.as_bytes()).unwrap().1, contents);
    let records = |text: &str| -> Vec<String> {
        let records = text.lines().filter(|line| line.contains("\"key\""));
        records.map(|line| line.replace("\"v\":1", "\"v\":2")).collect()
    };
    assert_eq!(records(&written), records(BACKUP_1), "but for their version they are written as they were then");
    assert!(written.starts_with("{\"spindown_backup\":2,"), "whoever read it then is told that this is newer");
}

#[test]
fn a_newer_format_is_refused_with_both_and_what_to_do_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(folder.path()).unwrap());
    meddle(folder.path(), |t| {
        t.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 9).unwrap();
    });
    let before = file(folder.path());
    for error in [Embedded::open(folder.path()).err().unwrap(), Embedded::look(folder.path()).err().unwrap()] {
        for words in ["format 9", "up to 2", "upgrade this Spindown", "spindown.redb"] {
            assert!(error.message().contains(words), "{words}: {error}");
        }
        assert_eq!(error.kind(), Kind::Internal);
    }
    assert!(file(folder.path()) == before, "the file was changed");
}

#[test]
fn what_is_no_database_is_refused_with_what_to_do_and_left_alone() {
    let good = of_format_1();
    let good = file(good.path());
    let mut broken = good.clone();
    broken[..4096].fill(7);
    let mut holed = good.clone();
    holed[4096..good.len()].fill(0xaa);
    for bytes in [b"somebody's notes".to_vec(), broken, holed, good[..good.len() / 2].to_vec(), vec![7; 1 << 20]] {
        let folder = with_file(&bytes);
        // A look may take one that was cut off for one that was not closed.
        Embedded::look(folder.path()).unwrap_err();
        let error = Embedded::open(folder.path()).err().unwrap();
        assert_eq!(error.kind(), Kind::Internal, "{error:?}");
        assert!(error.message().contains("damaged") && error.message().contains("restore"), "{error}");
        assert!(file(folder.path()) == bytes, "the file was changed");
    }
}

#[tokio::test]
async fn damaged_records_are_taken_out_and_newer_ones_told_apart() {
    let folder = of_format_1();
    drop(Embedded::open(folder.path()).unwrap());
    let table = |name| TableDefinition::<&str, &[u8]>::new(name);
    meddle(folder.path(), |t| {
        t.open_table(table("containers")).unwrap().insert(id(1).as_str(), &b"{\"v\":3}"[..]).unwrap();
        t.open_table(table("containers")).unwrap().insert(id(3).as_str(), &b"{\"v\":1}"[..]).unwrap();
        t.open_table(table("activity")).unwrap().insert(id(1).as_str(), &b"\xff"[..]).unwrap();
        t.open_table(table("attempts")).unwrap().insert("a", &b"{}"[..]).unwrap();
    });
    let seen = Embedded::look(folder.path()).unwrap();
    assert_eq!((seen.containers, seen.unreadable.len()), (4, 4));
    let store = Embedded::open(folder.path()).unwrap();
    assert!(store.export().await.is_err(), "a backup leaves nothing out without a word");
    let unreadable = store.unreadable().await.unwrap();
    let told: Vec<_> = unreadable.iter().map(|u| (u.of, u.key.as_str(), u.newer)).collect();
    let (first, third) = (id(1), id(3));
    assert_eq!(
        told,
        [
            (Table::Containers, first.as_str(), true),
            (Table::Containers, third.as_str(), false),
            (Table::Activity, first.as_str(), false),
            (Table::Attempts, "a", false)
        ]
    );
    assert!(unreadable[1].why.contains("set-aside") && unreadable[0].why.contains("upgrade"), "{unreadable:?}");
    for record in unreadable.iter().filter(|record| !record.newer) {
        assert!(store.take_out(record).await.unwrap());
        assert!(!store.take_out(record).await.unwrap(), "it is gone");
    }
    let mut changed = unreadable[0].clone();
    changed.bytes.push(b' ');
    assert!(!store.take_out(&changed).await.unwrap(), "it is not what was seen");
    assert_eq!(store.unreadable().await.unwrap(), [unreadable[0].clone()]);
}

#[tokio::test]
async fn a_look_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Embedded::look(folder.path()).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(Embedded::open_existing(folder.path()).err().unwrap().kind(), Kind::NotFound);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let store = Embedded::open(folder.path()).unwrap();
    store.put_container(&container(1)).await.unwrap();
    assert_eq!(Embedded::look(folder.path()).unwrap_err().kind(), Kind::Conflict);
    drop(store);
    let before = file(folder.path());
    assert_eq!(Embedded::look(folder.path()).unwrap().containers, 1);
    assert!(file(folder.path()) == before);
    let old = of_format_1();
    let before = file(old.path());
    assert_eq!(Embedded::look(old.path()).unwrap().containers, 2);
    assert!(file(old.path()) == before, "an older format is left as it is");
}

fn head() -> Head {
    Head::new("test", DATE)
}

#[tokio::test]
async fn whoever_has_the_file_open_hands_out_backups() {
    let parent = tempfile::tempdir().unwrap();
    // Deeper than the path of a socket may be long.
    let folder = parent.path().join("a".repeat(120)).join("b".repeat(120));
    let store = Embedded::open(&folder).unwrap();
    let socket = folder.join("spindown.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for n in 0..200 {
        store.put_container(&container(n)).await.unwrap();
    }
    let whole = store.export().await.unwrap();
    let head = head();
    let (first, second) = tokio::join!(Embedded::ask(&folder, &head), Embedded::ask(&folder, &head));
    assert_eq!((first.unwrap(), second.unwrap()), (whole.clone(), whole));
    drop(store);
    assert!(!socket.exists());
    // What an open file was killed with is no obstacle, and nobody answers there.
    fs::write(&socket, "").unwrap();
    assert_eq!(Embedded::ask(&folder, &head).await.unwrap_err().kind(), Kind::Unavailable);
    let store = Embedded::open(&folder).unwrap();
    assert_eq!(Embedded::ask(&folder, &head).await.unwrap().containers.len(), 200);
    drop(store);
}

#[tokio::test]
async fn a_caller_who_knows_no_manners_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let socket = folder.path().join("spindown.sock");
    for nonsense in [&b"\n"[..], b"{}\n", &[b'x'; 10_000]] {
        let mut caller = UnixStream::connect(&socket).unwrap();
        let _ = caller.write_all(nonsense);
        let mut answer = String::new();
        let _ = caller.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
    }
    assert!(Embedded::ask(folder.path(), &head()).await.unwrap().is_empty());
    // Somebody who says nothing does not keep the store from being closed.
    let _silent = UnixStream::connect(&socket).unwrap();
    drop(store);
    Embedded::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_the_answer_of_who_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(folder.path()).unwrap());
    meddle(folder.path(), |t| {
        let table = TableDefinition::<&str, &[u8]>::new("containers");
        t.open_table(table).unwrap().insert(id(1).as_str(), &b"nonsense"[..]).unwrap();
    });
    let _store = Embedded::open(folder.path()).unwrap();
    let error = Embedded::ask(folder.path(), &head()).await.unwrap_err();
    assert!(error.message().contains(id(1).as_str()) && error.message().contains("set-aside"), "{error}");
}
