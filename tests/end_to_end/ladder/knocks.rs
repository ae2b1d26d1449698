//! Knocks: whoever comes for a frozen container has it go on, and nothing is lost; who hammers is let hammer.

use std::{
    fs,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// How long a container is hammered at.
const SIEGE: Duration = Duration::from_secs(60);

/// Somebody who hammers.
#[derive(Clone, Copy)]
struct Besieger {
    person: u8,
    /// Whether he guesses at keys, rather than only to connect.
    guesses: bool,
    pause: Duration,
}

/// Hammers at a container until that is over; answers how often.
fn besiege(house: &House, container: &Value, by: Besieger, over: &AtomicBool) -> u32 {
    let wrong = SshKey::make();
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        if by.guesses {
            let patience = ["-o", "ConnectTimeout=5"];
            let guess = house.ssh_with(&wrong, container, by.person, &patience, &["true"]).output().unwrap();
            assert!(!guess.status.success());
        } else {
            drop(house.street.connect(by.person, port(container)));
        }
        times += 1;
        thread::sleep(by.pause);
    }
    times
}

/// What an SSH server does for each of them is work: here 6 ms of a processor for a connection and 24 ms for a guess. More
/// than two guesses a second are the five in a hundred that count. So who hammers at the first container does it more
/// slowly, and the second one's work does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hammers_at_it_does_not_keep_it_up_and_a_user_gets_in() {
    let house = House::open();
    let (slowly, madly) = tokio::join!(
        house.create("freeze_after=5s&idle_timeout=12s"),
        house.create("freeze_after=5s&idle_timeout=12s&evidence=processor=off")
    );
    let by = |person, guesses, pause| Besieger { person, guesses, pause: Duration::from_millis(pause) };
    let besiegers = [
        (&slowly, by(10, false, 500)),
        (&slowly, by(11, true, 1_500)),
        (&madly, by(12, false, 200)),
        (&madly, by(13, true, 0)),
    ];
    for container in [&slowly, &madly] {
        assert_eq!(house.login(container, ADA, &["echo in"]).unwrap(), "in");
    }
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let mut seen: [Vec<(String, u64)>; 2] = Default::default();
    let runtime = tokio::runtime::Handle::current();
    let times: Vec<u32> = thread::scope(|scope| {
        let (house, over) = (&house, &over);
        let at_it = besiegers.map(|(container, by)| scope.spawn(move || besiege(house, container, by, over)));
        tokio::task::block_in_place(|| {
            while begun.elapsed() < SIEGE {
                for (container, seen) in [&slowly, &madly].into_iter().zip(&mut seen) {
                    let status = runtime.block_on(house.status(container));
                    if seen.last().is_none_or(|(last, _)| *last != status) {
                        seen.push((status, begun.elapsed().as_secs()));
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        over.store(true, Ordering::Relaxed);
        at_it.map(|one| one.join().unwrap()).into()
    });
    let log = house.server.log();
    let woken = |person: u8| {
        let client = house.street.person(person).to_string();
        let came = |line: &&str| {
            (line.contains("container woken") || line.contains("somebody came: it goes on")) && line.contains(&client)
        };
        log.lines().filter(came).count()
    };
    let woken = besiegers.map(|(_, by)| woken(by.person));
    println!("connections {times:?}, woke it {woken:?} times: {seen:?}");
    for (container, seen) in [&slowly, &madly].into_iter().zip(&seen) {
        let history = house.history(container).await;
        let was = |status: &str| seen.iter().any(|(seen, _)| seen == status);
        assert!(was("frozen") && was("stopped"), "{seen:?} {:#}\n{log}", house.activity(container).await);
        assert!(words(&history).contains(&"wake_refused"), "{history:#?}");
    }
    assert_eq!((woken[0], woken[2]), (0, 0), "who says nothing wakes nothing");
    assert!(woken[1] <= 4 && woken[3] <= 4, "{woken:?}\n{log}");
    // A user has nothing to do with that, and it sleeps as before.
    for container in [&slowly, &madly] {
        house.becomes(container, "stopped").await;
        assert_eq!(house.login(container, ADA + 1, &["echo in"]).unwrap(), "in");
    }
}

/// What nobody takes up waits in a queue, which is full some time.
#[tokio::test]
async fn a_crowd_at_a_frozen_one_does_not_shut_a_user_out() {
    let house = House::open();
    let made = house.create("idle_timeout=1h").await;
    assert_eq!(house.login(&made, ADA, &["echo in"]).unwrap(), "in");
    house.freeze(&made).await;
    let mut crowd = Vec::new();
    for person in 1..=45 {
        for _ in 0..4 {
            let (street, port) = (Arc::clone(&house.street), port(&made));
            // Who is not let into the queue waits before it.
            crowd.push(thread::spawn(move || drop(street.connect(person, port))));
        }
        thread::sleep(Duration::from_millis(10));
    }
    // Nobody but the last few has been told anything else than that he is connected.
    let there = crowd.iter().filter(|one| one.is_finished()).count();
    let begun = Instant::now();
    // The server behind the queue may turn him away until it has seen to the crowd, and then he tries again.
    let mut tries = 0;
    while let Err(error) = house.login(&made, ADA, &["true"]) {
        tries += 1;
        assert!(begun.elapsed() < LONG / 2, "{error}: {:#}\n{}", house.activity(&made).await, house.server.log());
    }
    println!("{there} of {} have come; a user is in after {:?}, {tries} times in vain", crowd.len(), begun.elapsed());
}

#[tokio::test]
async fn what_is_typed_into_a_frozen_editor_is_not_lost() {
    const SENTENCE: &str = "nothing-of-this-is-lost";
    let house = House::open();
    let made = house.create("freeze_after=3s&idle_timeout=1h").await;
    let mut session = house.sit_down(&made, ADA).await;
    // The line editor of the shell, which keeps what is typed to itself until the line is done.
    session.types("echo ");
    session.hears("echo ").await;
    // At first it is frozen for being idle.
    house.becomes(&made, "frozen").await;
    let mut times = Vec::new();
    for (number, letter) in SENTENCE.chars().enumerate() {
        if number > 0 {
            house.freeze(&made).await;
        }
        session.types(&letter.to_string());
        times.push(session.hears(&letter.to_string()).await);
    }
    session.types("\n");
    session.hears(&format!("{SENTENCE}\r\n")).await;
    let history = house.history(&made).await;
    // Three things happen for each key, and the last 32 are told.
    assert!(words(&history).iter().filter(|word| **word == "woken").count() >= 8, "{history:#?}");
    let client = house.street.person(ADA).to_string();
    assert!(history.iter().filter(|what| what["event"] == "woken").all(|what| what["client"] == client.as_str()));
    let (median, last) = percentiles(&mut times);
    println!("{} keys into a frozen editor: echo after {median:?} (median), {last:?} (the slowest)", times.len());
}

#[tokio::test]
async fn a_file_is_whole_however_often_it_is_frozen_on_the_way() {
    const MUCH: usize = 50 << 20;
    let house = House::open();
    let (up, down) = tokio::join!(house.create("idle_timeout=1h"), house.create("idle_timeout=1h"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, noise(MUCH)).unwrap();
    let path_of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    run("docker", &["cp", &path_of("file"), &format!("{}:/home/student/file", engine_id(&down))]);
    let sum = |text: &str| text.split_whitespace().next().unwrap().to_owned();
    let expected = sum(&run("sha256sum", &[&path_of("file")]));
    let remote = format!("student@{}:", house.street.house());
    let copy = |container: &Value, from: &str, to: &str| {
        // Four megabytes a second, so that it takes its time.
        let copy = house.key.scp(&port(container).to_string(), from, to);
        let mut slow = Command::new("scp");
        slow.args(["-l", "32768"]).args(copy.get_args());
        house.street.command(&slow).spawn().unwrap()
    };
    let mut copies = [
        copy(&up, &path_of("file"), &format!("{remote}copy")),
        copy(&down, &format!("{remote}file"), &path_of("back")),
    ];
    let (begun, mut frozen, mut knocked) = (Instant::now(), 0, 0);
    while copies.iter_mut().any(|copy| copy.try_wait().unwrap().is_none()) {
        assert!(begun.elapsed() < Duration::from_secs(90), "it does not get on: {}", house.server.log());
        for (container, copy) in [&up, &down].into_iter().zip(&mut copies) {
            if copy.try_wait().unwrap().is_some() {
                continue;
            }
            house.freeze(container).await;
            frozen += 1;
            // One that is sent to asks for itself; who waits for what is not sent cannot, but now and then has something
            // to say all the same.
            if container["id"] == up["id"] && frozen % 4 != 0 && copy.try_wait().unwrap().is_none() {
                let path = path(container);
                house.server.wait_for(&path, "running", |a| a.json["status"] == "running").await;
                knocked += 1;
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let thawed = house.server.patch(&path(container), "status=running").await;
                assert_eq!((thawed.status, &thawed.json["status"]), (200, &"running".into()));
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    println!("frozen {frozen} times in {:?}, {knocked} of them ended by what came", begun.elapsed());
    assert!(copies.iter_mut().all(|copy| copy.wait().unwrap().success()));
    assert!(frozen > 10 && knocked > 3, "{frozen} {knocked}");
    assert_eq!(sum(&house.login(&up, ADA, &["sha256sum copy"]).unwrap()), expected);
    assert_eq!(sum(&run("sha256sum", &[&path_of("back")])), expected);
}

/// Says hello like an SSH client, and waits for the answer.
fn banner(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[tokio::test]
async fn a_new_connection_to_a_frozen_one_is_answered() {
    let house = House::open();
    let made = house.create("idle_timeout=1h").await;
    let mut times = Vec::new();
    for person in 1..=20 {
        house.freeze(&made).await;
        let begun = Instant::now();
        let line = banner(house.street.connect(person, port(&made)).unwrap());
        times.push(begun.elapsed());
        assert!(line.starts_with("SSH-"), "{line}");
        house.becomes(&made, "running").await;
    }
    let (median, most) = percentiles(&mut times);
    println!("20 new connections to a frozen container: banner after {median:?} (p50), {most:?} (p99)");
    let history = house.history(&made).await;
    assert!(words(&history).contains(&"woken"), "{history:#?}");
}

#[tokio::test]
async fn it_is_frozen_and_thawed_by_request_and_what_others_froze_is_theirs() {
    let house = House::open();
    let (ours, theirs) = tokio::join!(house.create("idle_timeout=8s"), house.create("idle_timeout=8s&freeze_after=4s"));
    for _ in 0..5 {
        house.freeze(&ours).await;
        assert_eq!(inspect(&ours, "{{.State.Paused}}"), "true");
        // Asked again it stays so.
        house.freeze(&ours).await;
        let thawed = house.server.patch(&path(&ours), "status=running").await;
        assert_eq!((thawed.status, &thawed.json["status"]), (200, &"running".into()), "{:#}", thawed.json);
        assert_eq!(inspect(&ours, "{{.State.Paused}}"), "false");
    }
    run("docker", &["pause", engine_id(&theirs)]);
    house.becomes(&theirs, "frozen").await;
    let mut knocks = Vec::new();
    let mut person = 20;
    // Twice as long as it may be idle.
    holds(Duration::from_secs(16), async || {
        if person < 40 {
            person += 1;
            let mut stream = house.street.connect(person, port(&theirs)).unwrap();
            stream.write_all(b"SSH-2.0-test\r\n").unwrap();
            knocks.push(stream);
        }
        assert_eq!(house.status(&theirs).await, "frozen", "{}", house.server.log());
    })
    .await;
    assert_eq!((knocks.len(), inspect(&theirs, "{{.State.Paused}}")), (20, "true".to_owned()));
    let history = house.history(&theirs).await;
    assert!(!words(&history).contains(&"woken"), "{history:#?}");
    // Who is the last to freeze it is the first to let it go on.
    run("docker", &["unpause", engine_id(&theirs)]);
    house.becomes(&theirs, "running").await;
    // An SSH server turns people away while many others who have not logged in are there.
    drop(knocks);
    until("it lets people in", || house.login(&theirs, ADA, &["true"]).is_ok()).await;
}
