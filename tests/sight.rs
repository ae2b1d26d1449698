//! Real containers are looked into: who is connected, who has logged in, who types, how much they work.
#![expect(clippy::disallowed_methods, reason = "they wait for real things to happen, and not for ever")]

mod attack;
mod socket;
mod yard;

use std::{
    fs,
    io::Write,
    time::{Duration, Instant},
};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use spindown::{
    model::{EngineId, Kind},
    sight::{Sight, linux::Linux},
};
use yard::*;

use crate::support::server::{SshKey, run};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_at_a_terminal_is_seen_typing() {
    let (sandbox, key, eyes) = (Sandbox::ssh(), SshKey::make(), eyes());
    sandbox.let_in(&key);
    let (target, port) = (sandbox.target(), sandbox.port());
    let gone = look_until(&eyes, &target, "nobody", |look| look.connections.is_empty()).await;
    assert!(gone.terminals.is_empty(), "{gone:?}");

    let mut person = Guest::new(&mut key.ssh(&port, &["-tt", "echo here; exec cat"]));
    person.until("here");
    let seen = look(&eyes, &target).await;
    assert_eq!((seen.connections.len(), seen.terminals.len()), (1, 1), "{seen:#?}");
    assert_eq!((seen.connections[0].port, seen.connections[0].login), (22, true), "{seen:#?}");
    assert_eq!((seen.terminals[0].number, seen.connections[0].unread), (0, 0), "{seen:#?}");
    assert!(seen.connections[0].quiet < SECOND * 5, "{seen:#?}");
    let unasked = look(&eyes, &spindown::model::Target { logins: false, ..target.clone() }).await;
    assert!(!unasked.connections[0].login);

    // While nothing is typed, it grows …
    let quiet = look_until(&eyes, &target, "quiet", |look| {
        look.terminals[0].quiet > SECOND * 3 && look.connections[0].quiet > SECOND * 3
    })
    .await;
    let begun = Instant::now();
    let more = look_until(&eyes, &target, "more quiet", |_| begun.elapsed() > SECOND).await;
    for (before, after) in
        [(quiet.terminals[0].quiet, more.terminals[0].quiet), (quiet.connections[0].quiet, more.connections[0].quiet)]
    {
        let grown = after.saturating_sub(before);
        assert!(grown > SECOND * 8 / 10 && grown < SECOND * 3, "{before:?} {after:?}");
    }
    // … and then falls, for a terminal at the next step of eight seconds.
    person.types(b"k");
    look_until(&eyes, &target, "data moves", |look| look.connections[0].quiet < SECOND).await;
    look_until(&eyes, &target, "a key", |look| {
        // A line, because that is what is read where nothing else was asked for.
        person.types(b"k\n");
        look.terminals[0].quiet < SECOND * 2
    })
    .await;

    drop(person);
    look_until(&eyes, &target, "he leaves", |look| look.connections.is_empty() && look.terminals.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_terminal_has_logged_in_and_a_stranger_has_not() {
    let (sandbox, key, eyes) = (Sandbox::ssh(), SshKey::make(), eyes());
    sandbox.let_in(&key);
    let (target, port) = (sandbox.target(), sandbox.port());
    look_until(&eyes, &target, "nobody", |look| look.connections.is_empty()).await;

    // One says nothing, one says only who he is, and stays at the door.
    let silent = sandbox.connect(22);
    let mut polite = sandbox.connect(22);
    polite.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    let strangers = look_until(&eyes, &target, "both", |look| look.connections.len() == 2).await;
    let clients = [silent.local_addr().unwrap(), polite.local_addr().unwrap()];
    for connection in &strangers.connections {
        assert!(clients.contains(&connection.client) && connection.port == 22 && !connection.login, "{strangers:#?}");
    }

    for arguments in [&["cat"][..], &["-N"], &["-s", "sftp"]] {
        let mut guest = key.ssh(&port, &[]);
        if arguments[0] == "-N" {
            guest.arg("-N")
        } else {
            guest.args(arguments)
        };
        let guest = Guest::new(&mut guest);
        let seen = look_until(&eyes, &target, arguments[0], |look| look.connections.iter().any(|c| c.login)).await;
        assert_eq!((seen.connections.len(), seen.terminals.len()), (3, 0), "{arguments:?} {seen:#?}");
        for connection in seen.connections {
            assert_eq!(connection.login, !clients.contains(&connection.client), "{arguments:?} {connection:?}");
        }
        drop(guest);
        look_until(&eyes, &target, "he leaves", |look| look.connections.len() == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sits_at_a_terminal_is_told() {
    let (sandbox, key, eyes) = (Sandbox::ssh(), SshKey::make(), eyes());
    sandbox.let_in(&key);
    let (target, port) = (sandbox.target(), sandbox.port());
    assert_eq!(eyes.tell(&target, "nobody hears").await.unwrap(), 0);

    let mut one = Guest::new(&mut key.ssh(&port, &["-tt", "echo one here; exec cat"]));
    let two = Guest::new(&mut key.ssh(&port, &["-tt", "echo two here; exec cat"]));
    one.until("one here");
    two.until("two here");
    assert_eq!(eyes.tell(&target, "stops \u{1b}[5min 5 minutes\r\n").await.unwrap(), 2);
    for guest in [&one, &two] {
        guest.until("\nstops [5min 5 minutes\r");
    }

    // One who holds his terminal back holds nobody else up.
    one.types(&[0x13]);
    let deadline = Instant::now() + SECOND * 10;
    while eyes.tell(&target, "again").await.unwrap() == 2 {
        assert!(Instant::now() < deadline, "it is never held back");
    }
    let begun = Instant::now();
    assert_eq!(eyes.tell(&target, "only to two").await.unwrap(), 1);
    assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    two.until("only to two");
    assert!(!one.wrote().contains("only to two"));

    // Nor does a container that is frozen.
    run("docker", &["pause", &sandbox.name]);
    let begun = Instant::now();
    for _ in 0..5_000 {
        eyes.tell(&target, "nobody reads this, again and again, until there is no room for it any more").await.unwrap();
    }
    assert_eq!(eyes.tell(&target, "no room").await.unwrap(), 0);
    assert!(begun.elapsed() < SECOND * 10, "{:?}", begun.elapsed());
    run("docker", &["unpause", &sandbox.name]);
}

/// Whether this kernel counts what goes to disks. Those from 6.10 on do so with version 1 only where limits are set.
fn counts_disks() -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive");
    all.map_or(true, |all| all.lines().any(|line| line.contains(':')))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_seen() {
    let (sandbox, eyes) = (Sandbox::ssh(), eyes());
    let target = sandbox.target();
    let before = look(&eyes, &target).await;
    let (processor, disk) = (before.processor.unwrap(), before.disk.unwrap_or(0));
    let work = sandbox.exec_beside("exec perl -e 'while (1) {}'");
    look_until(&eyes, &target, "work", |look| look.processor.unwrap() > processor + SECOND).await;
    drop(work);
    sandbox.exec("dd if=/dev/zero of=/var/tmp/file bs=1M count=4 oflag=direct conv=fsync 2>/dev/null");
    sandbox.exec("dd if=/var/tmp/file of=/dev/null bs=1M iflag=direct 2>/dev/null");
    if counts_disks() {
        look_until(&eyes, &target, "both ways", |look| look.disk.is_some_and(|now| now >= disk + (8 << 20))).await;
    } else {
        assert_eq!(look(&eyes, &target).await.disk, None);
    }
    // Only with version 2 there is a way, which this engine may not have.
    let reclaimed = eyes.reclaim(&target).await.unwrap();
    let version_two = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert!(reclaimed.is_some() == version_two, "{reclaimed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_gone_is_not_mistaken_for_another() {
    let files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (sandbox, other, eyes) = (Sandbox::ssh(), Sandbox::ssh(), eyes());
    let (target, there) = (sandbox.target(), other.target());
    look(&eyes, &there).await;
    let before = files();
    look(&eyes, &target).await;
    assert!(files() > before);
    look(&eyes, &target).await;

    // Another's process, this machine's own, and no process at all.
    let id = |digit: &str| EngineId::parse(&digit.repeat(64)).unwrap();
    for (engine_id, pid) in [
        (target.engine_id.clone(), there.pid),
        (id("a"), target.pid),
        (target.engine_id.clone(), std::process::id()),
        (target.engine_id.clone(), 0),
        (target.engine_id.clone(), u32::MAX),
        (target.engine_id.clone(), 4_194_303),
    ] {
        let stranger = spindown::model::Target { engine_id, pid, ..target.clone() };
        assert_eq!(try_look(&eyes, &stranger).await.unwrap_err().kind(), Kind::NotFound, "{stranger:?}");
        assert_eq!(eyes.tell(&stranger, "hello").await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(eyes.reclaim(&stranger).await.unwrap_err().kind(), Kind::NotFound);
    }
    look(&eyes, &target).await;
    look(&eyes, &there).await;

    run("docker", &["stop", "-t", "0", &sandbox.name]);
    assert_eq!(try_look(&eyes, &target).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(eyes.tell(&target, "hello").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(files(), before, "its files are closed");

    run("docker", &["start", &sandbox.name]);
    let again = sandbox.target();
    assert_eq!(try_look(&eyes, &target).await.unwrap_err().kind(), Kind::NotFound);
    look(&eyes, &again).await;

    // One that is not asked about any more, and goes.
    run("docker", &["rm", "-f", &sandbox.name]);
    let looks = eyes.look(vec![there.clone(), again.clone()]).await;
    assert!(looks[0].1.is_ok());
    assert_eq!(looks[1].1.as_ref().unwrap_err().kind(), Kind::NotFound);
    assert_eq!(files(), before, "its files are closed");
    let third = Sandbox::ssh();
    look(&eyes, &third.target()).await;
    drop(third);
    look(&eyes, &there).await;
    assert_eq!(files(), before, "its files are closed without its being asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_asked_for_is_let_go_after_a_while_and_not_for_looks_at_others() {
    let files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (sandbox, patience) = (Sandbox::ssh(), SECOND * 3);
    let eyes = Linux::with_patience(patience).unwrap();
    let before = files();
    look(&eyes, &sandbox.target()).await;
    let begun = Instant::now();
    let all = files();
    assert!(all > before);
    let mut looks = 0;
    while begun.elapsed() < patience / 2 {
        assert!(eyes.look(Vec::new()).await.is_empty());
        assert!(files() >= all || begun.elapsed() >= patience);
        looks += 1;
    }
    assert!(looks > 20, "{looks}");
    tokio::time::sleep(patience).await;
    eyes.look(Vec::new()).await;
    assert_eq!(files(), before);
    // Whoever looks is always back in its own network.
    let home = fs::read_link("/proc/self/ns/net").unwrap();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        assert_eq!(fs::read_link(thread.unwrap().path().join("ns/net")).unwrap(), home);
    }
}

#[tokio::test]
async fn whoever_has_not_the_right_sees_nothing_and_says_so() {
    let sandbox = Sandbox::ssh();
    let mut rights = capabilities(None).unwrap();
    rights.effective.remove(CapabilitySet::SYS_ADMIN);
    // Of this thread and those that it starts.
    set_capabilities(None, rights).unwrap();
    let blind = Linux::new().unwrap();
    assert!(!blind.sees());
    assert_eq!(try_look(&blind, &sandbox.target()).await.unwrap_err().kind(), Kind::Unavailable);
}
