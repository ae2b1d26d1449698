//! Pulls that wait, fail, lose their listener or their server, output that is followed, and what an image says of its
//! containers.

use std::time::Duration;

use spindown::{
    engine::{Engine, sim::Call},
    model::{
        DEFAULT, DiskSpace, Error, Image, ImageReference, Kind, LogRange, PullStep, RegistryCredentials, Rungs, Timeout,
    },
    service::{
        container::{Change, NewContainer},
        image::{Pulling, Told},
    },
};

use crate::support::world::{IMAGE, World, minutes, sandbox, wanted};

const TINY: &str = "registry.example/tiny:1";

async fn world() -> World {
    let world = World::new().await;
    world.sim.publish(TINY, Image::default(), None);
    world
}

async fn pull(world: &World) -> Result<Pulling, Error> {
    world.service().pull_image(ImageReference::parse(TINY).unwrap(), None).await
}

/// What is told from here on.
async fn rest(pulling: &mut Pulling) -> (Vec<PullStep>, Result<(), Error>) {
    let mut steps = Vec::new();
    loop {
        match pulling.next().await {
            Told::Progress(progress) => steps.push(progress.step),
            Told::Done => return (steps, Ok(())),
            Told::Failed(error) => return (steps, Err(error)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_told_to_its_end() {
    let world = world().await;
    let (steps, outcome) = rest(&mut pull(&world).await.unwrap()).await;
    outcome.unwrap();
    assert_eq!((steps.first(), steps.last()), (Some(&PullStep::Pulling), Some(&PullStep::Complete)));
    assert!(world.service().images().await.unwrap().contains(&TINY.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_midst_is_the_last_that_is_told() {
    let world = world().await;
    world.sim.hold(Call::PullStep);
    let mut pulling = pull(&world).await.unwrap();
    world.until("a step is held up", || world.sim.count(Call::PullStep) > 0).await;
    world.sim.fail_next(Call::PullStep, Error::unavailable("as arranged"));
    world.sim.release(Call::PullStep);
    let (steps, outcome) = rest(&mut pulling).await;
    assert_eq!((steps.len(), outcome.unwrap_err().message()), (0, "as arranged"));
    // An engine that ends takes its stream along without a word: that is no success.
    world.sim.hold(Call::PullStep);
    let mut pulling = pull(&world).await.unwrap();
    world.sim.go_down();
    world.sim.release(Call::PullStep);
    assert_eq!(rest(&mut pulling).await.1.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_after_all_is_no_success() {
    let world = world().await;
    world.sim.fail_next(Call::Image, Error::not_found("as arranged"));
    assert_eq!(rest(&mut pull(&world).await.unwrap()).await.1.unwrap_err().message(), "as arranged");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_pulled_at_once_and_a_listener_who_leaves_makes_room() {
    let world = world().await;
    world.sim.hold(Call::PullStep);
    let mut pulls = Vec::new();
    for _ in 0..4 {
        pulls.push(pull(&world).await.unwrap());
    }
    let refused = pull(&world).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::TooMany);
    assert!(refused.message().contains("4 images"), "{refused}");
    pulls.pop();
    world.quiet().await;
    pulls.push(pull(&world).await.unwrap());
    world.sim.release(Call::PullStep);
    for mut pulling in pulls {
        rest(&mut pulling).await.1.unwrap();
    }
    pull(&world).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_with_the_server() {
    let world = world().await;
    world.sim.hold(Call::PullStep);
    let mut pulling = pull(&world).await.unwrap();
    // One that waits for the registry's first word, too.
    world.sim.hold(Call::Pull);
    let service = world.service();
    let waiting = tokio::spawn(async move { service.pull_image(ImageReference::parse(TINY).unwrap(), None).await });
    world.until("it waits", || world.sim.count(Call::Pull) == 2).await;
    let before = tokio::time::Instant::now();
    world.service().close(Duration::from_secs(15)).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(rest(&mut pulling).await.1.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn credentials_for_another_registry_are_not_sent() {
    let world = world().await;
    let [username, password, server] = ["ada", "secret", "elsewhere.example"].map(|text| Some(text.to_owned()));
    let credentials = RegistryCredentials { username, password, server, ..Default::default() };
    let image = ImageReference::parse(TINY).unwrap();
    let refused = world.service().pull_image(image, Some(credentials)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.message().contains("registry.example") && !refused.message().contains("ada"), "{refused}");
    assert_eq!(world.sim.count(Call::Pull), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pulled_onto_a_full_disk() {
    let world = world().await;
    world.sim.set_disk(Some(DiskSpace { free: 5 << 20, total: 9 << 30 }));
    let refused = pull(&world).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Exhausted);
    assert_eq!(world.sim.count(Call::Pull), 0);
}

const FOLLOW: LogRange = LogRange { tail: Some(0), follow: true, timestamps: false };

#[tokio::test(start_paused = true)]
async fn reading_output_is_no_sign_of_use() {
    let mut world = World::new().await;
    let id = world.create("10m").await;
    let engine_id = world.engine_id(&id).await.unwrap();
    let used = world.report(&id).last_active_at;
    let mut output = world.service().container_logs(id.as_str(), &FOLLOW).await.unwrap();
    world.pass(minutes(5)).await;
    world.sim.say(&engine_id, "hello").unwrap();
    assert_eq!(output.recv().await.unwrap(), b"hello\n");
    assert_eq!(world.report(&id).last_active_at, used);
    world.pass(minutes(6)).await;
    assert!(!world.runs(&id).await, "nobody used it");
    assert_eq!(output.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_reader_who_was_told_nothing_for_longest_makes_room() {
    let world = World::new().await;
    let (id, quiet) = (world.create("never").await, world.create("never").await);
    let engine_id = world.engine_id(&id).await.unwrap();
    let mut silent = world.service().container_logs(quiet.as_str(), &FOLLOW).await.unwrap();
    let mut readers = Vec::new();
    for number in 0..64 {
        world.sim.say(&engine_id, "hello").unwrap();
        readers.push(world.service().container_logs(id.as_str(), &FOLLOW).await.unwrap());
        world.quiet().await;
        assert_eq!(
            silent.try_recv().is_err_and(|e| e == tokio::sync::mpsc::error::TryRecvError::Disconnected),
            number == 63
        );
    }
    world.sim.say(&engine_id, "last").unwrap();
    for reader in &mut readers {
        while reader.recv().await.unwrap() != b"last\n" {}
    }
    // Who leaves makes room by himself.
    readers.pop();
    world.quiet().await;
    let _more = world.service().container_logs(id.as_str(), &FOLLOW).await.unwrap();
    world.quiet().await;
    assert!(readers.iter_mut().all(|r| r.try_recv() == Err(tokio::sync::mpsc::error::TryRecvError::Empty)));
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_has_no_more_has_no_output() {
    let world = World::new().await;
    let id = world.create("never").await;
    let engine_id = world.engine_id(&id).await.unwrap();
    let mut output = world.service().container_logs(id.as_str(), &FOLLOW).await.unwrap();
    world.sim.remove_behind(&engine_id);
    assert_eq!(output.recv().await, None);
    let refused = world.service().container_logs(id.as_str(), &FOLLOW).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(world.sim.list().await.unwrap().is_empty());
}

/// An image that says what holds for its containers.
fn labelled(labels: &[(&str, &str)]) -> Image {
    let labels = labels.iter().map(|(name, text)| (format!("spindown.{name}"), (*text).to_owned())).collect();
    Image { labels, ..sandbox() }
}

#[tokio::test(start_paused = true)]
async fn an_image_says_after_how_much_idleness_its_containers_are_stopped() {
    let world = World::new().await;
    let timeout = async |own: Option<Timeout>| {
        let wanted = NewContainer { idle_timeout: own, ..wanted() };
        world.service().create_container("admin", wanted, None).await.unwrap().container.idle_timeout
    };
    world.sim.add_image(IMAGE, labelled(&[("idle_timeout", "5m")]));
    assert_eq!(timeout(None).await, Timeout::After(minutes(5)));
    assert_eq!(timeout(Some(Timeout::Never)).await, Timeout::Never, "the creation is nearer");
    // What cannot be read says nothing.
    world.sim.add_image(IMAGE, labelled(&[("idle_timeout", "soon")]));
    assert_eq!(timeout(None).await, world.settings.idle_timeout);
}

#[tokio::test(start_paused = true)]
async fn an_image_says_what_holds_for_its_containers_unless_they_do() {
    let world = World::with(|settings| {
        settings.rungs.set("freeze_after", "1h").unwrap();
        settings.rungs.set("max_age", "1d").unwrap();
        settings.rungs.set("evidence", "disk=off").unwrap();
    })
    .await;
    let labels = [("freeze_after", "10m"), ("delete_after", "soon"), ("evidence", "processor=20%")];
    world.sim.add_image(IMAGE, labelled(&labels));
    let mut own = Rungs::default();
    let plain = world.service().create_container("admin", wanted(), None).await.unwrap().ladder;
    assert_eq!(plain.freeze_after, Timeout::After(minutes(10)), "the image is nearer than the server");
    assert_eq!(plain.max_age, Timeout::After(minutes(24 * 60)));
    assert_eq!(plain.delete_after, Timeout::Never, "what cannot be read says nothing");
    assert_eq!(plain.evidence.to_string(), "processor=20% disk=off", "each source for itself");
    own.set("freeze_after", "never").unwrap();
    own.set("evidence", "disk=on").unwrap();
    let wanted = NewContainer { rungs: own, ..wanted() };
    let made = world.service().create_container("admin", wanted, None).await.unwrap();
    assert_eq!(made.ladder.freeze_after, Timeout::Never, "the creation is nearest");
    assert_eq!(made.ladder.evidence.to_string(), "processor=20% disk=1m");
    // What was set is left to the image again.
    let mut change = Change { rungs_to_set: vec!["freeze_after"], ..Change::default() };
    change.rungs.set("freeze_after", DEFAULT).unwrap();
    let changed = world.service().update_container(made.container.id.as_str(), change).await.unwrap();
    assert_eq!(changed.ladder.freeze_after, Timeout::After(minutes(10)));
}
