//! Five thousand containers: what is done often stays quick, and what is kept stays bounded.

use spindown::{
    clock::{Clock, SystemClock},
    engine::sim::Call,
    model::Timeout,
};

use crate::support::world::{BEAT, SWEEP, World, minutes};

const MANY: usize = 5_000;

/// Prints how long something takes, for people to compare; no machine is fast enough for an assertion.
async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let clock = SystemClock::new();
    let outcome = work.await;
    println!("{what}: {:?}", clock.now().moment.since(spindown::model::Moment::START));
    outcome
}

#[tokio::test(start_paused = true)]
async fn five_thousand_are_listed_judged_and_heard() {
    let mut world = World::with(|settings| {
        settings.network.subnet = "10.64.0.0/16".parse().unwrap();
        settings.ports = 20_000..=29_999;
    })
    .await;
    let network = world.settings.network.clone();
    for (number, address) in network.addresses().take(MANY).enumerate() {
        // Half of them are idle soon.
        let timeout = Timeout::After(minutes(if number % 2 == 0 { 10 } else { 600 }));
        world.put_running(number, address, timeout, &Default::default()).await;
    }
    timed("all were adopted after", world.service().refresh_all(false)).await.unwrap();
    let listed = timed("listing them", async { world.list() }).await;
    assert_eq!(listed.len(), MANY);
    assert_eq!(world.store.records().len(), MANY);
    timed("a correction that finds nothing", world.service().refresh_all(false)).await.unwrap();
    timed("an audit of all", world.service().refresh_all(true)).await.unwrap();
    timed("a check-in of each", async {
        for report in &listed {
            world.service().check_in(report.container.address.unwrap().into(), 0).unwrap();
        }
    })
    .await;
    timed("writing what they reported", world.service().flush()).await;
    timed("a sweep that finds nobody idle", world.service().sweep()).await;
    timed("nine simulated minutes", world.pass(minutes(10) - BEAT)).await;
    assert_eq!(world.sim.count(Call::Stop), 0);
    timed("the sweep that stops half of them", world.pass(BEAT + SWEEP)).await;
    assert_eq!(world.sim.count(Call::Stop), MANY / 2);
    timed("starting the service anew", world.restart()).await;
    assert_eq!(world.list().len(), MANY);
    let made = timed("another create", world.create("10m")).await;
    assert!(world.runs(&made).await);
}

#[tokio::test(start_paused = true)]
async fn hundreds_are_stopped_started_and_removed_with_one_request() {
    use spindown::{
        model::Status,
        service::container::{Action, NewContainer},
    };
    const CLASS: usize = 300;
    let mut world = World::with(|settings| {
        (settings.ports, settings.starts_waiting) = (20_000..=29_999, 2);
        settings.network.subnet = "10.77.0.0/20".parse().unwrap();
    })
    .await;
    for number in 0..CLASS + 5 {
        let class = if number < CLASS { "a" } else { "b" };
        let labels = [("class".to_owned(), class.to_owned())].into();
        let wanted = NewContainer { labels, ..crate::support::world::wanted() };
        world.service().create_container("admin", wanted, None).await.unwrap();
    }
    let class = || vec![("class".to_owned(), Some("a".to_owned()))];
    for (action, status) in [(Action::Stop, Status::Stopped), (Action::Start, Status::Running)] {
        // One that fails does not matter to the others.
        let failing = if action == Action::Stop { Call::Stop } else { Call::Start };
        world.sim.fail_next(failing, spindown::model::Error::unavailable("as arranged"));
        let outcomes = world.service().do_to_all(action, class()).await.unwrap();
        assert_eq!(outcomes.len(), CLASS);
        assert_eq!(outcomes.iter().filter(|o| o.result.is_err()).count(), usize::from(action == Action::Start));
        world.pass(minutes(1)).await;
        let left = world.list().into_iter().filter(|r| r.status == status).count();
        assert_eq!(left, if action == Action::Stop { CLASS } else { CLASS - 1 + 5 }, "{action:?}");
    }
    let outcomes = world.service().do_to_all(Action::Remove, class()).await.unwrap();
    assert!(outcomes.iter().all(|o| matches!(o.result, Ok(None))));
    assert_eq!(world.list().len(), 5);
    assert_eq!(world.store.held_claims().len(), 15);
}
