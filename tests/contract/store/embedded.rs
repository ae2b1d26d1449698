//! The store in a file: the cases, and what only a file can suffer.

mod backup;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use redb::{Database, TableDefinition};
use spindown::{
    clock::{Clock, SystemClock},
    model::Kind,
    store::{ActivityStore, ContainerStore, Store, embedded::Embedded},
};

use super::{
    Fixture, Whole,
    sample::{DATE, activity, attempt, container, id},
};
use crate::support::disk::SmallDisk;

async fn fresh() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Whole> = Arc::new(Embedded::open(folder.path()).unwrap());
    Fixture { stores: vec![store], _keep: Box::new(folder) }
}

every_case!(fresh);

#[tokio::test]
async fn what_was_put_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    store.put_container(&container(1)).await.unwrap();
    store.merge_activities(&[(id(1), activity(1, None))]).await.unwrap();
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.containers().await.unwrap().len(), 1);
    assert_eq!(store.activity(&id(1)).await.unwrap(), Some(activity(1, None)));
}

#[tokio::test]
async fn dropping_the_store_finishes_what_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    for n in 0..100 {
        let container = container(n);
        // Polled once: handed in, and its caller gone before the answer.
        let put = store.put_container(&container);
        assert!(futures::poll!(std::pin::pin!(put)).is_pending());
    }
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.containers().await.unwrap().len(), 100);
}

#[test]
fn the_folder_and_its_files_are_nobody_elses_to_read() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a").join("data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(Embedded::open(&folder).unwrap());
    let file = folder.join("spindown.redb");
    assert_eq!((mode(&folder), mode(&file), mode(&folder.join("spindown.lock"))), (0o700, 0o600, 0o600));
    // A copy from a backup may be wider.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Embedded::open(&folder).unwrap());
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn a_second_server_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::open(folder.path()).unwrap();
    let error = Embedded::open(folder.path()).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("in use by another server"), "{error}");
    assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    Embedded::open(folder.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Embedded::open(&file.join("data")).err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("file/data"), "{error}");
}

/// Writes into the file behind the store's back.
fn meddle(folder: &Path, work: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(folder.join("spindown.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(folder.path()).unwrap());
    let table = |name| TableDefinition::<&str, &[u8]>::new(name);
    meddle(folder.path(), |t| {
        t.open_table(table("containers")).unwrap().insert(id(1).as_str(), &b"{\"v\":3}"[..]).unwrap();
        t.open_table(table("activity")).unwrap().insert(id(1).as_str(), &b"nonsense"[..]).unwrap();
    });
    let store = Embedded::open(folder.path()).unwrap();
    for error in [store.containers().await.err().unwrap(), store.put_container(&container(1)).await.err().unwrap()] {
        assert!(error.message().contains("newer Spindown") && error.message().contains(id(1).as_str()), "{error}");
    }
    let merged = store.merge_activities(&[(id(2), activity(1, None)), (id(1), activity(1, None))]).await;
    for error in [store.activities().await.err().unwrap(), merged.err().unwrap()] {
        assert!(error.message().contains("damaged") && error.message().contains(id(1).as_str()), "{error}");
    }
    assert_eq!(store.activity(&id(2)).await.unwrap(), None, "all or none");
    // One refusal does not spoil what is written beside it.
    assert_eq!(store.put_container(&container(2)).await.unwrap(), 1);
}

#[test]
fn a_file_that_was_being_made_when_the_server_was_killed_is_no_obstacle() {
    for length in [0, 5, 4096, 1 << 20] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("spindown.redb"), vec![0; length]).unwrap();
        Embedded::open(folder.path()).unwrap();
    }
}

/// Names the folder that the child writes to.
const CHILD: &str = "SPINDOWN_TEST_STORE_CHILD";

/// Not a test: the process that the next test kills. Tells of each write once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child of another test"]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(Embedded::open(Path::new(&folder)).unwrap());
    let writers = (0..8_u64).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0.. {
                let mut container = container(writer << 32 | n);
                container.version = store.put_container(&container).await.unwrap();
                store.put_container(&container).await.unwrap();
                store.merge_activities(&[(container.id.clone(), activity(n.cast_signed(), None))]).await.unwrap();
                writeln!(std::io::stdout(), "acknowledged {}", container.id).unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for enough in [1, 40, 400] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contract::store::embedded::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut ids = lines.filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned));
        acknowledged.extend(ids.by_ref().take(enough));
        child.kill().unwrap();
        acknowledged.extend(ids.filter(|id| id.len() == 32));
        child.wait().unwrap();

        let clock = SystemClock::new();
        let start = clock.now().moment;
        let store = Embedded::open(folder.path()).unwrap();
        println!("opened after a kill in {:?}", clock.now().moment.since(start));
        let containers = store.containers().await.unwrap();
        let activities = store.activities().await.unwrap();
        for id in &acknowledged {
            assert!(containers.iter().any(|c| c.id.as_str() == id && c.version == 2), "container {id} is lost");
            assert!(activities.iter().any(|(of, _)| of.as_str() == id), "activity of {id} is lost");
        }
        // The next child writes anew.
        for container in containers {
            store.remove_container(&container.id).await.unwrap();
        }
        acknowledged.clear();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: no file system may be mounted here");
        return;
    };
    let store = Embedded::open(disk.path()).unwrap();
    let mut first = container(0);
    first.version = store.put_container(&first).await.unwrap();
    // Others fill the disk to its last byte; the store's own file has some room in it yet.
    disk.fill();
    let mut stored = 1;
    let error = loop {
        assert!(stored < 100, "the disk never fills");
        let mut big = container(stored);
        big.image = "x".repeat(200_000);
        match store.put_container(&big).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("full"), "{error}");
    // What is there can be read all along, and what fits can be written.
    for _ in 0..2 {
        assert_eq!(store.containers().await.unwrap().len() as u64, stored);
        let mut big = container(stored);
        big.image = "x".repeat(3_000_000);
        assert_eq!(store.put_container(&big).await.unwrap_err().kind(), Kind::Unavailable);
    }
    let told = store.ping().await;
    println!("a ping on the full disk: {told:?}");
    disk.clear();
    store.ping().await.unwrap();
    let mut big = container(stored);
    big.image = "x".repeat(200_000);
    assert_eq!(store.put_container(&big).await.unwrap(), 1);
    assert_eq!(store.put_container(&first).await.unwrap(), 2);
    drop(store);
    let store = Embedded::open(disk.path()).unwrap();
    assert_eq!(store.containers().await.unwrap().len() as u64, stored + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn how_long_a_put_takes() {
    super::measure(&fresh().await).await;
}
