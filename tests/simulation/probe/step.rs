//! What may happen in a story, and how it is made to.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use proptest::{prelude::*, sample::Index};
use spindown::{
    engine::{Engine, sim::Call},
    model::{EngineState, Error, Kind, Knock},
};

use super::{HEARD, Model, SSH, TICK, WEB, Whose};
use crate::support::{
    eyes::Gaze,
    memory::{Access, Fault},
    world::minutes,
};

/// What may happen.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Pass(u64),
    Gap(u64),
    Jump(i64),
    /// A user comes and sends something; he has the container started if it is down.
    Come(Index),
    /// He sends something more; `quietly` if the kernel does not tell of it.
    Send(Index, bool),
    /// He types at a terminal.
    Type(Index),
    Leave(Index),
    Work(Index, bool),
    /// A connection is begun, and nothing more.
    Knock(Index),
    /// A guesser comes, or goes.
    Stranger(Index),
    See(Gaze),
    /// Whether the timer of the looks runs.
    Looks(bool),
    /// It reports so many connections whatever there are.
    Report(Index, Option<u64>),
    Fail(Call, u8),
    StoreFails(Fault),
    Forgive,
    EngineAway(bool),
    EngineBack,
    StoreAway(bool),
    StoreBack,
    LoseEvents(bool),
    Crash(bool),
    Start,
    /// The server is ended in an orderly way, and started.
    Restart,
    PauseBehind(Index),
    UnpauseBehind(Index),
    KillBehind(Index),
    StartBehind(Index),
    Freeze(Index),
    StartUp(Index),
    Stop(Index),
    Request(Index),
    Extend(Index, u64),
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    use Step::*;
    let one = any::<Index>;
    let gaze =
        prop_oneof![3 => Just(Gaze::True), 1 => Just(Gaze::Fails), 1 => Just(Gaze::Nothing), 1 => Just(Gaze::Old)];
    let call = prop_oneof![
        3 => Just(Call::Freeze), 3 => Just(Call::Thaw), 3 => Just(Call::Stop), 3 => Just(Call::Inspect),
        1 => Just(Call::List), 1 => Just(Call::Events), 1 => Just(Call::Start),
    ];
    prop_oneof![
        10 => (1u64..120).prop_map(Pass),
        14 => (120u64..30 * 60).prop_map(Pass),
        1 => prop_oneof![1u64..50, 50u64..3_600].prop_map(Gap),
        1 => prop_oneof![-86_400i64..86_400, -20i64..20].prop_map(Jump),
        6 => one().prop_map(Come),
        6 => (one(), any::<bool>()).prop_map(|(i, quietly)| Send(i, quietly)),
        3 => one().prop_map(Type),
        4 => one().prop_map(Leave),
        2 => (one(), any::<bool>()).prop_map(|(i, works)| Work(i, works)),
        1 => one().prop_map(Knock),
        3 => one().prop_map(Stranger),
        3 => gaze.prop_map(See),
        2 => prop::bool::weighted(0.7).prop_map(Looks),
        2 => (one(), prop::option::of(0u64..3)).prop_map(|(i, lie)| Report(i, lie)),
        5 => (call, 1u8..3).prop_map(|(call, times)| Fail(call, times)),
        1 => prop_oneof![Just(Fault::Before), Just(Fault::After)].prop_map(StoreFails),
        2 => Just(Forgive),
        1 => any::<bool>().prop_map(EngineAway),
        3 => Just(EngineBack),
        1 => any::<bool>().prop_map(StoreAway),
        3 => Just(StoreBack),
        1 => any::<bool>().prop_map(LoseEvents),
        2 => prop::bool::weighted(0.1).prop_map(Crash),
        4 => Just(Start),
        1 => Just(Restart),
        2 => one().prop_map(PauseBehind),
        1 => one().prop_map(UnpauseBehind),
        1 => one().prop_map(KillBehind),
        1 => one().prop_map(StartBehind),
        3 => one().prop_map(Freeze),
        3 => one().prop_map(StartUp),
        1 => one().prop_map(Stop),
        1 => one().prop_map(Request),
        1 => (one(), 1u64..90).prop_map(|(i, minutes)| Extend(i, minutes)),
    ]
}

impl Model {
    pub(super) async fn go(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => self.pass(Duration::from_secs(*seconds)).await,
            Step::Gap(seconds) => {
                let span = Duration::from_secs(*seconds);
                self.world.gap(span);
                self.now += span;
                (self.steady, self.true_since) = (self.now, self.now);
            }
            Step::Jump(seconds) => {
                self.world.jump(time::Duration::seconds(*seconds));
                (self.steady, self.true_since) = (self.now, self.now);
            }
            Step::See(gaze) => {
                // What was true for a moment in between may not have been looked at.
                (self.gaze, self.true_since, self.dark_since) = (*gaze, self.now, None);
                self.world.eyes.set_gaze(*gaze);
            }
            Step::Looks(on) => self.looks.store(*on, Ordering::Relaxed),
            Step::Fail(call, times) => {
                for _ in 0..*times {
                    self.world.sim.fail_next(*call, Error::new(Kind::Internal, "as arranged"));
                }
                self.faulty = true;
            }
            Step::StoreFails(fault) => {
                self.world.store.fail_next(Access::Put, *fault);
                self.faulty = true;
            }
            Step::Forgive => self.forgive(),
            Step::EngineAway(hangs) => {
                if *hangs {
                    self.world.sim.hang();
                } else {
                    self.world.sim.go_down();
                }
                self.engine_away = true;
            }
            Step::EngineBack => {
                self.world.sim.resume();
                self.world.sim.come_back(false);
                self.engine_away = false;
            }
            Step::StoreAway(true) => self.world.store.hang(),
            Step::StoreAway(false) => self.world.store.go_down(),
            Step::StoreBack => self.world.store.come_back(),
            Step::LoseEvents(lost) => self.world.sim.lose_events(*lost),
            Step::Crash(wipe) => self.crash(*wipe),
            Step::Start => self.start().await,
            Step::Restart if self.world.is_up() => self.restart().await,
            Step::Restart => {}
            Step::Come(i)
            | Step::Send(i, _)
            | Step::Type(i)
            | Step::Leave(i)
            | Step::Work(i, _)
            | Step::Knock(i)
            | Step::Stranger(i)
            | Step::Report(i, _)
            | Step::PauseBehind(i)
            | Step::UnpauseBehind(i)
            | Step::KillBehind(i)
            | Step::StartBehind(i) => self.go_with(step, i.index(self.guests.len())).await,
            Step::Freeze(i) | Step::StartUp(i) | Step::Stop(i) | Step::Request(i) | Step::Extend(i, _) => {
                if self.world.is_up() {
                    self.ask(step, i.index(self.guests.len())).await;
                }
            }
        }
        self.check();
    }

    pub(super) fn forgive(&mut self) {
        self.world.sim.forgive();
        self.world.store.forgive();
        self.faulty = false;
        self.calm = self.now;
    }

    pub(super) fn crash(&mut self, wipe: bool) {
        self.stop_timers();
        self.world.crash();
        self.steady = self.now;
        for guest in &mut self.guests {
            if !self.sees {
                // Who knocked is told to nobody any more, and cannot be seen.
                guest.wanted = None;
            }
            if wipe && guest.whose == Whose::Theirs {
                // Nobody knows any more.
                guest.whose = Whose::Unclear;
            }
        }
        if wipe {
            self.world.store.wipe();
        }
    }

    pub(super) async fn start(&mut self) {
        if !self.world.is_up() {
            self.world.gap(TICK);
            self.now += TICK;
            self.world.start().await;
            self.run_timers();
        }
    }

    /// The server is ended, which leaves nothing frozen, and started.
    pub(super) async fn restart(&mut self) {
        self.stop_timers();
        let sound = self.is_steady() && self.now - self.calm >= HEARD;
        let service = self.world.service();
        self.during(async move { service.close(Duration::from_secs(20)).await }).await;
        for guest in self.guests.iter().filter(|guest| sound && self.now - guest.behind >= HEARD) {
            let left = guest.state == EngineState::Paused && guest.whose == Whose::Ours;
            assert!(!left, "nobody would notice who comes: {:#?}", self.world.store.records());
        }
        self.crash(false);
        self.start().await;
    }

    /// Something comes for a container through the network.
    pub(super) fn arrive(&mut self, index: usize, client: SocketAddr, port: u16, quietly: bool) {
        let now = self.now;
        let (world, guest) = (&self.world, &mut self.guests[index]);
        world.eyes.arrives(&guest.id, port, client);
        let seen = self.sees && self.gaze == Gaze::True;
        let told = !quietly && world.is_up() && world.kernel.watched().contains(&guest.address);
        if !quietly {
            world.kernel.knock(Knock { client, address: guest.address, port, data: true });
        }
        guest.touched = now;
        // Strangers have to wait now and then.
        if port == WEB && guest.whose == Whose::Ours && (seen || told) {
            guest.wanted = guest.wanted.or(Some(now));
        }
    }

    pub(super) async fn go_with(&mut self, step: &Step, index: usize) {
        let (now, away) = (self.now, self.engine_away);
        let state = self.guests[index].state;
        match step {
            Step::Come(_) if self.guests[index].visit.is_none() => self.come(index).await,
            Step::Send(_, quietly) => {
                let Some((client, _)) = self.guests[index].visit else { return };
                match state {
                    EngineState::Running => self.move_data(index),
                    EngineState::Paused => {
                        self.guests[index].moved = Some(now);
                        self.arrive(index, client, WEB, *quietly);
                    }
                    _ => {}
                }
            }
            Step::Type(_) if state == EngineState::Running => {
                let guest = &mut self.guests[index];
                (guest.typed, guest.touched) = (Some(now), now);
                self.world.eyes.inside(&guest.id, |inside, now| inside.typed = Some(now));
            }
            Step::Leave(_) => self.leave(index),
            Step::Work(_, works) => self.work(index, *works),
            Step::Knock(_) => {
                let guest = &self.guests[index];
                let client = SocketAddr::from(([192, 0, 2, 250], 40_000));
                self.world.kernel.knock(Knock { client, address: guest.address, port: WEB, data: false });
            }
            Step::Stranger(_) => self.stranger(index),
            Step::Report(_, lie) => self.guests[index].lie = *lie,
            Step::PauseBehind(_) if state == EngineState::Running && !away => {
                let id = &self.guests[index].id;
                let kept = self.world.store.records().into_iter().find(|container| container.id == *id);
                let known = self.world.is_up().then(|| self.world.find(id).ok()).flatten().map(|r| r.container);
                // What there is no record of was wiped, or not saved yet.
                let unknown = kept.is_none();
                let at_it = [kept, known].iter().flatten().any(|c| c.stopping.is_some() || c.freezing.is_some());
                let whose = if at_it || unknown { Whose::Unclear } else { Whose::Theirs };
                self.world.sim.freeze_behind(&self.guests[index].engine_id);
                let guest = &mut self.guests[index];
                (guest.whose, guest.behind) = (whose, now);
            }
            Step::UnpauseBehind(_) if state == EngineState::Paused && !away => {
                let guest = &mut self.guests[index];
                (guest.whose, guest.behind) = (Whose::Ours, now);
                // A failure that is arranged may strike here.
                let _ = self.world.sim.thaw(&guest.engine_id).await;
                if self.world.sim.peek(&guest.engine_id).unwrap().state == EngineState::Paused {
                    guest.whose = Whose::Unclear;
                }
            }
            Step::KillBehind(_) if state.is_up() && !away => {
                let guest = &mut self.guests[index];
                (guest.ordered, guest.behind) = (true, now);
                self.world.sim.kill_behind(&guest.engine_id);
            }
            Step::StartBehind(_) if !state.is_up() && !away => {
                let guest = &mut self.guests[index];
                guest.behind = now;
                self.world.sim.start_behind(&guest.engine_id).unwrap();
            }
            _ => {}
        }
    }

    pub(super) fn move_data(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        let Some((client, _)) = guest.visit else { return };
        (guest.moved, guest.touched) = (Some(self.now), self.now);
        self.world.eyes.moves(&guest.id, WEB, client);
    }

    /// A user comes, from where nobody has come before.
    pub(super) async fn come(&mut self, index: usize) {
        if !self.guests[index].state.is_up() {
            if !self.world.is_up() {
                return;
            }
            let (service, id) = (self.world.service(), self.guests[index].id.clone());
            let _ = self.during(async move { service.start_container(id.as_str()).await }).await;
        }
        self.visits += 1;
        let [high, low] = self.visits.to_be_bytes();
        let client = SocketAddr::from(([198, 18, high, low], 40_000));
        let (now, guest) = (self.now, &mut self.guests[index]);
        match guest.state {
            EngineState::Running => {
                guest.visit = Some((client, now));
                self.move_data(index);
            }
            EngineState::Paused => {
                (guest.visit, guest.moved) = (Some((client, now)), Some(now));
                self.arrive(index, client, WEB, false);
            }
            _ => {}
        }
    }

    pub(super) fn leave(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        if let Some((client, _)) = guest.visit.take() {
            self.world.eyes.ends(&guest.id, WEB, client);
            // Nobody waits any more.
            guest.wanted = None;
        }
    }

    pub(super) fn work(&mut self, index: usize, works: bool) {
        let guest = &mut self.guests[index];
        guest.works = works.then(|| guest.works.unwrap_or(self.now));
        guest.touched = self.now;
        let working = works && guest.state == EngineState::Running;
        self.world.eyes.works(&guest.id, if working { 800 } else { 0 });
    }

    pub(super) fn stranger(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        guest.touched = self.now;
        if let Some(client) = guest.stranger.take() {
            self.world.eyes.ends(&guest.id, SSH, client);
            return;
        }
        self.visits += 1;
        let client = SocketAddr::from(([203, 0, 113, 5], 1_024 + self.visits));
        match guest.state {
            EngineState::Running => self.world.eyes.moves(&guest.id, SSH, client),
            EngineState::Paused => self.arrive(index, client, SSH, false),
            _ => return,
        }
        self.guests[index].stranger = Some(client);
    }

    /// Somebody asks for something through the API.
    pub(super) async fn ask(&mut self, step: &Step, index: usize) {
        let (service, id) = (self.world.service(), self.guests[index].id.clone());
        let guest = &mut self.guests[index];
        let theirs = guest.whose == Whose::Theirs;
        // What comes of it is not known before it is over.
        if matches!(step, Step::Freeze(_) | Step::StartUp(_) | Step::Stop(_)) && guest.whose != Whose::Ours {
            guest.whose = Whose::Unclear;
        }
        guest.by_hand |= matches!(step, Step::Freeze(_));
        guest.extended |= matches!(step, Step::Extend(..));
        guest.ordered |= matches!(step, Step::Stop(_));
        let asked = step.clone();
        let done = self
            .during(async move {
                let name = id.as_str();
                match asked {
                    Step::Freeze(_) => service.freeze_container(name).await.is_ok(),
                    Step::StartUp(_) => service.start_container(name).await.is_ok(),
                    Step::Stop(_) => service.stop_container(name).await.is_ok(),
                    Step::Extend(_, by) => service.extend_container(name, minutes(by)).await.is_ok(),
                    _ => service.update_container(name, Default::default()).await.is_ok(),
                }
            })
            .await;
        let (now, guest) = (self.now, &mut self.guests[index]);
        guest.touched = now;
        match step {
            Step::Freeze(_) | Step::StartUp(_) if done => {
                (guest.whose, guest.ordered, guest.wanted) = (Whose::Ours, false, None);
            }
            Step::Stop(_) if !done && theirs && guest.state == EngineState::Paused => guest.whose = Whose::Unclear,
            _ => {}
        }
        guest.by_hand &= guest.state == EngineState::Paused;
    }
}
