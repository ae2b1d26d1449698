//! What every engine does with images, output and disk.

use futures::StreamExt;
use spindown::{
    engine::Engine,
    model::{Blueprint, EngineId, Error, ImageReference, Kind, LogRange, PullProgress, PullStep, RegistryCredentials},
};

use super::{GRACE, PATIENCE, Rig, fails, rig::Published};

/// Pulls to the end, and answers what was told.
async fn pull(
    engine: &dyn Engine,
    image: &str,
    credentials: Option<&RegistryCredentials>,
) -> Result<Vec<PullProgress>, Error> {
    let image = ImageReference::parse(image).unwrap();
    let told = engine.pull(&image, credentials).await?;
    tokio::time::timeout(PATIENCE, told.collect::<Vec<_>>()).await.unwrap().into_iter().collect()
}

async fn remove(engine: &dyn Engine, image: &str) -> Result<(), Error> {
    engine.remove_image(&ImageReference::parse(image).unwrap()).await
}

pub async fn an_image_is_pulled_and_removed(rig: &dyn Rig) {
    let (engine, Published { image, credentials, _held }) = (rig.engine(), rig.publish().await);
    fails(engine.image(&image).await, Kind::NotFound, &image);
    fails(remove(engine, &image).await, Kind::NotFound, &image);
    let told = pull(engine, &image, Some(&credentials)).await.unwrap();
    assert_eq!((told[0].step, &told[0].layer), (PullStep::Pulling, &None));
    let last = told.last().unwrap();
    assert_eq!(last.step, PullStep::Complete);
    assert!(last.layer.as_ref().is_some_and(|layer| layer.len() == 12), "{told:?}");
    // An engine tells of a layer's way what it comes to tell: of a small one perhaps nothing.
    for moving in told.iter().filter(|p| p.step == PullStep::Downloading) {
        assert!(moving.current.unwrap() > 0 && moving.total.unwrap() >= moving.current.unwrap(), "{told:?}");
    }
    assert!(engine.images().await.unwrap().contains(&image));
    assert_eq!(engine.image(&image).await.unwrap().exposed.len(), 1);
    // What is there already is looked for all the same.
    assert_eq!(pull(engine, &image, Some(&credentials)).await.unwrap()[0].step, PullStep::Pulling);
    remove(engine, &image).await.unwrap();
    fails(engine.image(&image).await, Kind::NotFound, &image);
    fails(remove(engine, &image).await, Kind::NotFound, &image);
}

pub async fn a_registry_lets_in_who_proves_himself(rig: &dyn Rig) {
    let (engine, Published { image, credentials, _held }) = (rig.engine(), rig.publish().await);
    let wrong = RegistryCredentials { password: Some("wrong-word".to_owned()), ..credentials.clone() };
    for refused in [None, Some(&wrong)] {
        let outcome = pull(engine, &image, refused).await;
        assert!(!format!("{outcome:?}").contains("wrong-word"), "{outcome:?}");
        fails(outcome, Kind::Unsuitable, "X-Registry-Auth");
    }
    let other = format!("{image}-none");
    fails(pull(engine, &other, Some(&credentials)).await, Kind::NotFound, &other);
    assert!(!engine.images().await.unwrap().contains(&image));
}

pub async fn an_image_in_use_is_not_removed(rig: &dyn Rig) {
    let (engine, Published { image, credentials, _held }) = (rig.engine(), rig.publish().await);
    pull(engine, &image, Some(&credentials)).await.unwrap();
    let name = rig.name("holder");
    let blueprint = Blueprint { name: Some(name.clone()), image: image.clone(), ..rig.blueprint(0) };
    let id = engine.create(&blueprint).await.unwrap();
    fails(remove(engine, &image).await, Kind::Conflict, name.as_str());
    assert!(engine.images().await.unwrap().contains(&image));
    engine.remove(&id).await.unwrap();
    remove(engine, &image).await.unwrap();
}

pub async fn two_pulls_of_one_image_get_it_both(rig: &dyn Rig) {
    let (engine, Published { image, credentials, _held }) = (rig.engine(), rig.publish().await);
    let (one, other) =
        futures::join!(pull(engine, &image, Some(&credentials)), pull(engine, &image, Some(&credentials)));
    assert_eq!((one.unwrap()[0].step, other.unwrap()[0].step), (PullStep::Pulling, PullStep::Pulling));
    assert!(engine.images().await.unwrap().contains(&image));
}

pub async fn a_pull_that_was_dropped_can_be_made_again(rig: &dyn Rig) {
    let (engine, Published { image, credentials, _held }) = (rig.engine(), rig.publish().await);
    let reference = ImageReference::parse(&image).unwrap();
    let mut told = engine.pull(&reference, Some(&credentials)).await.unwrap();
    assert_eq!(told.next().await.unwrap().unwrap().step, PullStep::Pulling);
    drop(told);
    pull(engine, &image, Some(&credentials)).await.unwrap();
    engine.image(&image).await.unwrap();
}

fn all() -> LogRange {
    LogRange { tail: None, follow: false, timestamps: false }
}

async fn read(engine: &dyn Engine, id: &EngineId, range: LogRange) -> String {
    let pieces = engine.logs(id, &range).await.unwrap().collect::<Vec<_>>().await;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(Result::unwrap).collect();
    String::from_utf8(bytes).unwrap()
}

/// Waits until the container's output ends with this.
async fn await_output(engine: &dyn Engine, id: &EngineId, end: &str) {
    let found = async {
        while !read(engine, id, all()).await.ends_with(end) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("it never wrote {end:?}"));
}

pub async fn what_a_container_writes_is_read(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = engine.create(&rig.mortal(0)).await.unwrap();
    assert_eq!(read(engine, &id, all()).await, "");
    engine.start(&id).await.unwrap();
    for line in ["one", "two", "three"] {
        rig.say(&id, line);
        await_output(engine, &id, &format!("{line}\n")).await;
    }
    assert_eq!(read(engine, &id, all()).await, "one\ntwo\nthree\n");
    assert_eq!(read(engine, &id, LogRange { tail: Some(2), ..all() }).await, "two\nthree\n");
    assert_eq!(read(engine, &id, LogRange { tail: Some(0), ..all() }).await, "");
    let dated = read(engine, &id, LogRange { tail: Some(1), timestamps: true, ..all() }).await;
    assert!(dated.starts_with("20") && dated.ends_with("Z three\n"), "{dated}");
    // It can be read when it is down.
    engine.stop(&id, GRACE).await.unwrap();
    assert_eq!(read(engine, &id, LogRange { tail: Some(1), ..all() }).await, "three\n");
    let followed = LogRange { follow: true, ..all() };
    assert_eq!(read(engine, &id, followed).await, "one\ntwo\nthree\n");
    engine.remove(&id).await.unwrap();
    fails(engine.logs(&id, &all()).await.map(drop), Kind::NotFound, "container");
    fails(engine.logs(&rig.foreign(), &all()).await.map(drop), Kind::NotFound, "container");
}

pub async fn what_a_container_goes_on_to_write_is_followed_to_its_end(rig: &dyn Rig) {
    let engine = rig.engine();
    let id = engine.create(&rig.mortal(0)).await.unwrap();
    engine.start(&id).await.unwrap();
    rig.say(&id, "before");
    await_output(engine, &id, "before\n").await;
    let range = LogRange { tail: Some(1), follow: true, timestamps: false };
    let mut pieces = engine.logs(&id, &range).await.unwrap();
    let mut said = Vec::new();
    for (line, known) in [("after", "before\n"), ("last", "before\nafter\n")] {
        while said.len() < known.len() {
            said.extend(tokio::time::timeout(PATIENCE, pieces.next()).await.unwrap().unwrap().unwrap());
        }
        assert_eq!(String::from_utf8_lossy(&said), known);
        rig.say(&id, line);
    }
    await_output(engine, &id, "last\n").await;
    rig.end(&id);
    let rest = tokio::time::timeout(PATIENCE, pieces.collect::<Vec<_>>()).await.unwrap();
    said.extend(rest.into_iter().flat_map(Result::unwrap));
    assert_eq!(String::from_utf8_lossy(&said), "before\nafter\nlast\n");
}

pub async fn what_a_container_takes_of_the_disk_is_measured(rig: &dyn Rig) {
    const MORE: u64 = 5 << 20;
    let engine = rig.engine();
    let id = engine.create(&rig.mortal(0)).await.unwrap();
    engine.start(&id).await.unwrap();
    let before = engine.disk_use(&id).await.unwrap();
    rig.fill(&id, MORE);
    let after = engine.disk_use(&id).await.unwrap();
    assert!((MORE..MORE + (1 << 20)).contains(&(after - before)), "{before} {after}");
    engine.stop(&id, GRACE).await.unwrap();
    assert!(engine.disk_use(&id).await.unwrap() >= MORE);
    let space = engine.disk().await.unwrap().unwrap();
    assert!(space.free > 0 && space.free < space.total, "{space:?}");
    fails(engine.disk_use(&rig.foreign()).await, Kind::NotFound, "container");
}
