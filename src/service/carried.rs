//! What the connections tell that are carried: each is a sign of use of its container, and those that woke one and come to
//! nothing cost their source patience.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use super::{Spindown, Unpoisoned};
use crate::{
    model::{ContainerId, Error, Kind, Moment, Result},
    policy::{
        idle::Sign,
        patience::{FREE_OF_ALL, FREE_OF_ONE, Past},
    },
};

/// How many sources are remembered before those that do not matter any more are swept out.
const SOURCES: usize = 4_096;

/// What is known of the connections that are carried, and of where they come from.
#[derive(Default)]
pub(super) struct Carried {
    /// How many there are.
    count: Mutex<usize>,
    /// Those that woke a container, by their numbers.
    wakers: Mutex<HashMap<u64, Waker>>,
    /// What became of those that did: of each source with each container, and with any.
    pasts: Mutex<HashMap<(IpAddr, Option<ContainerId>), Past>>,
}

/// A connection that woke a container.
struct Waker {
    source: IpAddr,
    container: ContainerId,
    since: Moment,
}

impl Spindown {
    /// Takes in which connections are carried.
    ///
    /// # Errors
    /// `Unavailable` if that cannot be found out.
    pub async fn heed_carried(&self) -> Result<()> {
        let asked = self.clock.now().moment;
        let carried = self.carrier.carried().await?;
        *self.carried.count.locked() = carried.len();
        // Where the container has said all that it will, a client that merely does not hang up uses nothing.
        let used: Vec<_> = carried.into_iter().filter(|one| !one.ended).collect();
        for text in used.iter().map(|one| one.passage.container.as_str()).collect::<BTreeSet<_>>() {
            if let Ok(id) = ContainerId::parse(text) {
                self.note_connection(&id);
            }
        }
        let there: BTreeSet<u64> = used.iter().map(|one| one.number).collect();
        let gone = |number: &u64, waker: &mut Waker| waker.since < asked && !there.contains(number);
        let ended: Vec<_> = self.carried.wakers.locked().extract_if(gone).map(|(_, waker)| waker).collect();
        self.remember(ended, self.clock.now().moment);
        Ok(())
    }

    /// Notes that somebody has a connection to a container through the door. That is use, unless it is seen what moves on
    /// it: then that counts. Nor is it while the container is halted: what comes over it then is heard.
    pub(super) fn note_connection(&self, id: &ContainerId) {
        let now = self.clock.now();
        self.snapshot.update(id, |entry| {
            if entry.track.is_none() && !entry.is_paused() {
                entry.note(Sign::Carried, now);
            }
        });
    }

    /// Notes that a connection that is carried woke its container.
    pub(super) fn note_waker(&self, number: u64, client: IpAddr, id: &ContainerId) {
        let waker = Waker { source: source(client), container: id.clone(), since: self.clock.now().moment };
        self.carried.wakers.locked().insert(number, waker);
    }

    /// How many connections are carried, as far as is known.
    pub(super) fn carried_count(&self) -> usize {
        *self.carried.count.locked()
    }

    /// Remembers what became of those that woke a container, now that they have ended.
    fn remember(&self, ended: Vec<Waker>, now: Moment) {
        let mut pasts = self.carried.pasts.locked();
        if pasts.len() > SOURCES {
            pasts.retain(|_, past| !past.is_forgotten(now));
        }
        for Waker { source, container, since } in ended {
            note_past(&mut pasts, source, container, now.since(since), now);
        }
    }

    /// Remembers how long a connection lasted that came for a container.
    pub(super) fn remember_source(&self, client: IpAddr, id: &ContainerId, lasted: Duration, now: Moment) {
        // From the gateway comes Spindown itself, and whoever comes through a proxy on the host, the engine's or another:
        // they are many, and cannot be told apart.
        if client == IpAddr::V4(self.settings.network.gateway()) {
            return;
        }
        note_past(&mut self.carried.pasts.locked(), source(client), id.clone(), lasted, now);
    }

    /// Whether a client may wake a container now.
    pub(super) fn bear_with(&self, client: IpAddr, id: &ContainerId) -> Result<()> {
        let (now, source) = (self.clock.now().moment, source(client));
        let pasts = self.carried.pasts.locked();
        let waits = |of: Option<&ContainerId>, free| {
            let past = pasts.get(&(source, of.cloned()));
            past.is_some_and(|past| !past.is_forgotten(now) && past.waits_until(free) > now)
        };
        if waits(Some(id), FREE_OF_ONE) || waits(None, FREE_OF_ALL) {
            let message = "what connections from there woke came to nothing several times in a row: they have to wait";
            return Err(Error::new(Kind::TooMany, message));
        }
        Ok(())
    }
}

fn note_past(
    pasts: &mut HashMap<(IpAddr, Option<ContainerId>), Past>,
    source: IpAddr,
    container: ContainerId,
    lasted: Duration,
    now: Moment,
) {
    for key in [(source, Some(container)), (source, None)] {
        let past = Past::after(pasts.get(&key).copied(), lasted, now);
        pasts.insert(key, past);
    }
}

/// What counts as one source: an address, or with IPv6 the network of 64 bits in which one machine has as many as it likes.
fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
