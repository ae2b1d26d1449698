//! The store in Redis: the cases through two connections, and what only a server elsewhere can do.

use std::{future::Future, sync::Arc, time::Duration};

use spindown::{
    clock::{Clock, SystemClock},
    model::{Claim, Error, HostName, Kind, Result},
    store::{
        ActivityStore, AttemptStore, ClaimStore, ContainerStore, Store,
        backup::{BackupStore, Contents},
        embedded::Embedded,
        redis::Redis,
    },
};

use super::{
    Fixture, Whole,
    sample::{DATE, activity, attempt, container, id},
};
use crate::support::redis::RedisServer;

/// The longest that a call may take: the deadline, and some for a busy machine.
const PATIENCE: Duration = Duration::from_millis(2_500);

async fn two_stores_on(server: RedisServer) -> Fixture {
    let mut stores: Vec<Arc<dyn Whole>> = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(connect(&server).await));
    }
    Fixture { stores, _keep: Box::new(server) }
}

async fn fresh() -> Fixture {
    two_stores_on(RedisServer::start()).await
}

async fn connect(server: &RedisServer) -> Redis {
    Redis::connect(&server.url(), "spindown").await.unwrap()
}

every_case!(fresh);

/// Waits for a call that has to fail, and how long it took.
async fn failing<T>(call: impl Future<Output = Result<T>>) -> (Error, Duration) {
    let clock = SystemClock::new();
    let start = clock.now().moment;
    let error = call.await.err().expect("the server is away");
    (error, clock.now().moment.since(start))
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_at_once_without_the_password() {
    let mut server = RedisServer::start();
    server.kill();
    let url = format!("redis://someone:sesame@127.0.0.1:{}/0", server.port());
    let (error, took) = failing(Redis::connect(&url, "spindown")).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains(&format!("127.0.0.1:{}", server.port())), "{error}");
    assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_named_within_the_deadline() {
    let server = RedisServer::start();
    server.hang();
    let (error, took) = failing(Redis::connect(&server.url(), "spindown")).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains(&format!("127.0.0.1:{}", server.port())), "{error}");
    assert!(took < PATIENCE, "{took:?}");
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_address_are_told_apart() {
    let server = RedisServer::start_with(&["--requirepass", "sesame"]);
    let at = |url: String| async move { Redis::connect(&url, "spindown").await.map(drop) };
    at(format!("redis://:sesame@127.0.0.1:{}", server.port())).await.unwrap();
    let wrong = at(format!("redis://:barley@127.0.0.1:{}", server.port())).await.unwrap_err();
    assert!(wrong.message().contains("refuses the user or the password"), "{wrong}");
    let none = at(server.url()).await.unwrap_err();
    assert!(none.message().contains("refuses the user or the password"), "{none}");
    for address in
        ["localhost", "http://:barley@localhost", "rediss://:barley@localhost", "redis://:barley@localhost:port", ""]
    {
        let refused = at(address.to_owned()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{address}");
        assert!(
            refused.message().contains("redis://") && !format!("{refused:?}{wrong:?}").contains("barley"),
            "{refused}"
        );
    }
    for prefix in ["", "a{b", "}"] {
        assert_eq!(Redis::connect(&server.url(), prefix).await.err().unwrap().kind(), Kind::Invalid);
    }
}

/// Every call, each of which has to end in time and as unavailable.
async fn all_calls_fail(store: &Redis) {
    let (host, id) = (HostName::local(), id(1));
    let (container, attempt) = (container(1), attempt(1, 0));
    let (used, wanted) = ([(id.clone(), activity(0, None))], [Claim::Port(1)]);
    let results = futures::join!(
        failing(store.ping()),
        failing(store.containers()),
        failing(store.container(&id)),
        failing(store.put_container(&container)),
        failing(store.remove_container(&id)),
        failing(store.activities()),
        failing(store.activity(&id)),
        failing(store.merge_activities(&used)),
        failing(store.claim(&host, &wanted, &id)),
        failing(store.claims(&host)),
        failing(store.release(&host, &id)),
        failing(store.begin_attempt("key", &attempt, DATE)),
        failing(store.abandon_attempt("key", &id)),
    );
    let (a, b, c, d, e, f, g, h, i, j, k, l, m) = results;
    for (error, took) in [a, b, c, d, e, f, g, h, i, j, k, l, m] {
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        assert!(error.retry_after().is_some());
        assert!(took < PATIENCE, "{took:?}");
    }
}

#[tokio::test]
async fn a_server_that_goes_down_is_told_and_comes_back_by_itself() {
    let mut server = RedisServer::start_durable();
    let store = connect(&server).await;
    let mut kept = container(1);
    kept.version = store.put_container(&kept).await.unwrap();
    for _ in 0..2 {
        server.kill();
        all_calls_fail(&store).await;
        server.restart();
        assert_eq!(store.container(&kept.id).await.unwrap(), Some(kept.clone()), "the first call already works");
        kept.version = store.put_container(&kept).await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_between_two_calls_goes_unnoticed() {
    let mut server = RedisServer::start_durable();
    let store = connect(&server).await;
    server.restart();
    store.merge_activities(&[(id(1), activity(0, None))]).await.unwrap();
    server.restart();
    store.containers().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_later_is_told_in_time_and_goes_on() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    store.put_container(&container(2)).await.unwrap();
    server.hang();
    all_calls_fail(&store).await;
    let (error, took) = failing(store.ping()).await;
    assert!(error.kind() == Kind::Unavailable && took < PATIENCE, "{error} {took:?}");
    server.go_on();
    store.ping().await.unwrap();
    assert_eq!(store.put_container(&spindown::model::Container { version: 1, ..container(2) }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_password_that_is_set_back_lets_it_in_again() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    server.tell("CONFIG SET requirepass sesame");
    server.tell("AUTH sesame\r\nCLIENT KILL TYPE normal SKIPME yes");
    let (error, _) = failing(store.ping()).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    server.tell("AUTH sesame\r\nCONFIG SET requirepass \"\"");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_memory_is_full_refuses_writes_and_answers_reads() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    store.put_container(&container(1)).await.unwrap();
    server.tell("CONFIG SET maxmemory 1");
    let (error, _) = failing(store.put_container(&container(2))).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(store.containers().await.unwrap().len(), 1);
    server.tell("CONFIG SET maxmemory 0");
    store.put_container(&container(2)).await.unwrap();
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    store.put_container(&container(1)).await.unwrap();
    server.tell("SCRIPT FLUSH SYNC");
    store.put_container(&container(2)).await.unwrap();
}

#[tokio::test]
async fn a_kill_of_a_durable_server_loses_no_acknowledged_write() {
    let mut server = RedisServer::start_durable();
    let store = connect(&server).await;
    for n in 0..200 {
        store.put_container(&container(n)).await.unwrap();
    }
    server.restart();
    assert_eq!(store.containers().await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_newer_format_is_refused_with_what_to_do() {
    let server = RedisServer::start();
    server.tell("SET {spindown}:format 2");
    let error = Redis::connect(&server.url(), "spindown").await.err().unwrap();
    assert!(error.message().contains("upgrade this server"), "{error}");
    Redis::connect(&server.url(), "another").await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_kept() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    let id = id(1);
    server.tell(&format!(r#"HSET {{spindown}}:containers {id} '{{"v":3}}'"#));
    server.tell(&format!("HSET {{spindown}}:activity {id} nonsense"));
    for error in [store.containers().await.err().unwrap(), store.put_container(&container(1)).await.err().unwrap()] {
        assert!(error.message().contains("newer Spindown") && error.message().contains(id.as_str()), "{error}");
    }
    let used = activity(1, None);
    let merged = store.merge_activities(&[(super::sample::id(2), used), (id.clone(), used)]).await;
    for error in [store.activities().await.err().unwrap(), merged.err().unwrap()] {
        assert!(error.message().contains("damaged") && error.message().contains(id.as_str()), "{error}");
    }
    assert_eq!(store.activity(&super::sample::id(2)).await.unwrap(), None, "all or none");
}

#[tokio::test]
async fn a_record_of_an_older_version_is_read_and_written_again() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    let mut kept = container(1);
    kept.version = store.put_container(&kept).await.unwrap();
    // As the one before wrote it.
    let made = server.tell(&format!(
        "EVAL \"local r = redis.call('HGET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[1], ARGV[1], (string.gsub(r, \
         '\\\"v\\\":2', '\\\"v\\\":1'))) return redis.call('HGET', KEYS[1], ARGV[1])\" 1 {{spindown}}:containers {}",
        kept.id
    ));
    assert!(made.contains("\"v\":1,"), "{made}");
    assert_eq!(store.container(&kept.id).await.unwrap(), Some(kept.clone()));
    kept.version = store.put_container(&kept).await.unwrap();
    let now = server.tell(&format!("HGET {{spindown}}:containers {}", kept.id));
    assert!(now.contains("\"v\":2,"), "{now}");
    assert_eq!(store.container(&kept.id).await.unwrap(), Some(kept));
}

#[tokio::test]
async fn a_key_of_another_kind_is_a_fault_not_an_outage() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    server.tell("SET {spindown}:containers something");
    for error in [store.containers().await.err().unwrap(), store.put_container(&container(1)).await.err().unwrap()] {
        assert_eq!(error.kind(), Kind::Internal, "{error:?}");
    }
}

#[tokio::test]
async fn prefixes_are_apart_and_keys_are_as_documented() {
    let server = RedisServer::start();
    let (store, other) = (connect(&server).await, Redis::connect(&server.url(), "other").await.unwrap());
    store.put_container(&container(1)).await.unwrap();
    store.merge_activities(&[(id(1), activity(0, None))]).await.unwrap();
    store.claim(&HostName::local(), &[Claim::Port(1)], &id(1)).await.unwrap();
    store.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap();
    assert_eq!(other.containers().await.unwrap(), []);
    let keys = server.tell("KEYS {spindown}:*");
    for name in [
        "format",
        "containers",
        "activity",
        "claims:local",
        "attempt:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683",
    ] {
        assert!(keys.contains(&format!("{{spindown}}:{name}\r\n")), "{name} in {keys}");
    }
    assert!(keys.starts_with("*5\r\n"), "{keys}");
    let ttl = server.tell("TTL {spindown}:attempt:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683");
    assert!(ttl.starts_with(":90000") || ttl.starts_with(":8999"), "{ttl}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn how_long_a_put_takes() {
    println!("in memory:");
    super::measure(&fresh().await).await;
    println!("append-only file, every write safe:");
    super::measure(&two_stores_on(RedisServer::start_durable()).await).await;
}

#[tokio::test]
async fn what_was_in_a_file_is_moved_to_redis_and_back() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let (redis, file) = (connect(&server).await, Embedded::open(folder.path()).unwrap());
    file.put_container(&container(1)).await.unwrap();
    file.merge_activities(&[(id(1), activity(1, Some((2, 3))))]).await.unwrap();
    file.claim(&HostName::local(), &container(1).claims(), &id(1)).await.unwrap();
    file.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap();
    let mut contents = file.export().await.unwrap();
    contents.claims.sort();
    redis.import(&contents, false).await.unwrap();
    let mut moved = redis.export().await.unwrap();
    moved.claims.sort();
    assert_eq!(moved, contents);
    assert_eq!(redis.begin_attempt("key", &attempt(2, 0), DATE).await.unwrap(), Some(attempt(1, 0)));
    file.import(&moved, true).await.unwrap();
    let mut back = file.export().await.unwrap();
    back.claims.sort();
    assert_eq!(back, contents);
}

#[tokio::test]
async fn an_import_leaves_what_is_under_other_prefixes() {
    let server = RedisServer::start();
    let (ours, theirs) = (connect(&server).await, Redis::connect(&server.url(), "spindown2*").await.unwrap());
    for store in [&ours, &theirs] {
        store.put_container(&container(1)).await.unwrap();
        store.begin_attempt("key", &attempt(1, 0), DATE).await.unwrap();
    }
    ours.import(&Contents::default(), true).await.unwrap();
    assert!(ours.export().await.unwrap().is_empty());
    let kept = theirs.export().await.unwrap();
    assert_eq!((kept.containers.len(), kept.attempts.len()), (1, 1));
}

#[tokio::test]
async fn who_is_at_work_on_a_prefix_is_told() {
    let server = RedisServer::start();
    let first = connect(&server).await;
    assert_eq!(first.others().await, Some(0));
    let second = connect(&server).await;
    let _elsewhere = Redis::connect(&server.url(), "spindown2").await.unwrap();
    assert_eq!((first.others().await, second.others().await), (Some(1), Some(1)));
}

#[tokio::test]
async fn records_that_cannot_be_read_are_taken_out() {
    let server = RedisServer::start();
    let store = connect(&server).await;
    store.put_container(&container(2)).await.unwrap();
    server.tell(&format!("HSET {{spindown}}:containers {} nonsense {} '{{\"v\":7}}'", id(1), id(3)));
    server.tell(&format!("HSET {{spindown}}:activity {} nonsense", id(1)));
    server.tell("SET {spindown}:attempt:00 nonsense");
    let seen = Redis::look(&server.url(), "spindown").await.unwrap();
    assert_eq!((seen.containers, seen.unreadable.len()), (3, 4));
    assert!(store.export().await.is_err());
    for record in store.unreadable().await.unwrap().iter().filter(|record| !record.newer) {
        assert!(store.take_out(record).await.unwrap(), "{record:?}");
        assert!(!store.take_out(record).await.unwrap());
    }
    let left = store.unreadable().await.unwrap();
    assert!(left.len() == 1 && left[0].key == id(3).as_str(), "{left:?}");
}

#[tokio::test]
async fn a_look_tells_what_redis_keeps_and_changes_nothing() {
    let server = RedisServer::start();
    let seen = Redis::look(&server.url(), "spindown").await.unwrap();
    assert_eq!((seen.keeps_every_write, seen.keeps_snapshots, seen.containers), (Some(false), Some(false), 0));
    assert_eq!(seen.eviction.as_deref(), Some("noeviction"));
    assert!(server.tell("DBSIZE").contains(":0"), "it is as empty as before");
    let durable = RedisServer::start_durable();
    assert_eq!(Redis::look(&durable.url(), "spindown").await.unwrap().keeps_every_write, Some(true));
    server.tell("SET {spindown}:format 9");
    let error = Redis::look(&server.url(), "spindown").await.unwrap_err();
    assert!(error.message().contains("\"9\"") && error.message().contains("upgrade"), "{error}");
}
