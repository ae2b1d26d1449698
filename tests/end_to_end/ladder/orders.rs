//! What is kept in order: over the server's end and death, and on the way down.

use std::io::Write;

use super::*;

/// Somebody says something at its SSH server, and is answered.
fn answered(house: &House, container: &Value, person: u8) -> bool {
    let Ok(mut stream) = house.street.connect(person, port(container)) else { return false };
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut line = String::new();
    stream.write_all(b"SSH-2.0-test\r\n").is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("SSH-")
}

#[tokio::test]
async fn what_is_frozen_runs_on_after_an_orderly_end_and_is_known_after_a_death() {
    let mut house = House::open();
    let (asked, probed) =
        tokio::join!(house.create("idle_timeout=1h"), house.create("idle_timeout=1h&freeze_after=2s"));
    let paused = |container: &Value| inspect(container, "{{.State.Paused}}") == "true";
    house.freeze(&asked).await;
    house.becomes(&probed, "frozen").await;
    let ended = house.server.end_with("TERM");
    assert!(ended.success(), "{ended:?}");
    assert!(!paused(&asked) && !paused(&probed), "nobody would notice who comes");

    let House { server, key, street } = house;
    let mut house = House { server: server.start_again(&[]), key, street };
    assert!(answered(&house, &asked, 1));
    house.freeze(&asked).await;
    house.becomes(&probed, "frozen").await;
    house.server.end_with("KILL");
    assert!(paused(&asked) && paused(&probed));

    let House { server, key, street } = house;
    let house = House { server: server.start_again(&[]), key, street };
    for (number, container) in [&asked, &probed].into_iter().enumerate() {
        assert_eq!(house.status(container).await, "frozen");
        assert!(answered(&house, container, 2 + u8::try_from(number).unwrap()), "{}", house.server.log());
        house.becomes(container, "running").await;
        assert!(!paused(container));
    }
    // And again, for the same reason as before.
    house.becomes(&probed, "frozen").await;
}

#[tokio::test]
async fn whoever_is_logged_in_is_warned_and_the_warning_is_no_use() {
    let house = House::open();
    // Long enough that he has logged in before it would warn of a stop for want of anybody.
    let made = house.create("idle_timeout=20s&warn_before=6s").await;
    let mut session = house.sit_down(&made, ADA).await;
    let begun = Instant::now();
    session.hears("Nobody seems to use this machine: it is stopped in ").await;
    let warned = begun.elapsed();
    let asleep = house.becomes(&made, "stopped").await;
    println!("warned after {warned:?}, stopped after {:?}", begun.elapsed());
    assert_eq!(asleep["stopped_by"], "idle");
    assert!(begun.elapsed() < Duration::from_secs(30), "the warning kept it up");
    let history = house.history(&made).await;
    assert_eq!(words(&history)[2..], ["warned", "stopping", "stopped"], "{history:#?}");
}

#[tokio::test]
async fn a_busy_one_ends_when_it_is_too_old_and_comes_back_for_whoever_connects() {
    let house = House::open();
    let (aged, worn) = tokio::join!(
        house.create("idle_timeout=never&max_age=10s&cpus=0.5"),
        house.create("idle_timeout=2s&delete_after=4s")
    );
    house.login(&aged, ADA, &["setsid nohup sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null & exit"]).unwrap();
    let asleep = house.becomes(&aged, "stopped").await;
    assert_eq!(asleep["stopped_by"], "age", "{asleep:#}");
    assert!(house.activity(&aged).await["wakes"] == true);
    assert_eq!(house.login(&aged, ADA, &["echo in"]).unwrap(), "in");
    assert_eq!(house.status(&aged).await, "running");

    let gone = house.server.wait_within(LONG, &path(&worn), "deleted", |a| a.status == 404).await;
    assert_eq!(gone.status, 404);
    let label = format!("label=spindown.id={}", worn["id"].as_str().unwrap());
    assert_eq!(run("docker", &["ps", "-aq", "--filter", &label]), "");
}
