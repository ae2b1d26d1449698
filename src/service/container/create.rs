//! Creating: choose a place, claim it, make the container, put the keys in, start it, take it up. Whatever fails takes
//! back what was done before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{AuthorizedKeys, Report, start::SSH_PATIENCE};
use crate::{
    model::{
        Blueprint, Claim, Container, ContainerId, EngineId, Error, Image, Kind, Limits, Name, Port, Removal, Result,
        Rungs, Timeout, Volumes, Wake,
    },
    policy::placement,
    service::{Spindown, Unpoisoned},
    step::{Step, passed},
    store::Attempt,
};

/// For how long an idempotency key is remembered.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How often another place is tried when somebody else was faster, or a stranger holds a port.
const PLACES: usize = 8;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct NewContainer {
    /// The image to run.
    pub image: String,
    /// Its name; the engine makes one up without it.
    pub name: Option<Name>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who may log in.
    pub authorized_keys: Option<AuthorizedKeys>,
    /// After how much idleness it is stopped; the server's default without it.
    pub idle_timeout: Option<Timeout>,
    /// What else is set of its ladder.
    pub rungs: Rungs,
    /// For what it wakes when it is down.
    pub wake: Wake,
    /// Its memory in bytes; the server's default without it.
    pub memory: Option<u64>,
    /// Its processors; the server's default without it.
    pub cpus: Option<f64>,
    /// The volumes to be mounted in it; those that are not there are made.
    pub volumes: Volumes,
}

/// A caller's mark on a create, so that repeating it makes no second container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header's value.
    ///
    /// # Errors
    /// `Invalid` if it is empty, longer than 255 bytes or not printable ASCII.
    pub fn parse(text: &str) -> Result<Self> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("Idempotency-Key: give 1 to 255 printable ASCII characters"))
        }
    }
}

/// What a container gets of its host.
struct Place {
    ports: Vec<Port>,
    address: std::net::Ipv4Addr,
}

impl Place {
    fn claims(&self) -> Vec<Claim> {
        let ports = self.ports.iter().map(|p| Claim::Port(p.host));
        ports.chain([Claim::Address(self.address)]).collect()
    }
}

impl Spindown {
    /// Makes a container for `owner` and starts it; with a `key` that was used before it answers with that container.
    ///
    /// # Errors
    /// `Unsuitable` if the image is not there or exposes no port; `Conflict` if the name is in use, or the key was used for
    /// something else; `Exhausted` without a port, an address, memory or disk; `Unavailable` without engine or store.
    pub async fn create_container(
        &self,
        owner: &str,
        wanted: NewContainer,
        key: Option<&IdempotencyKey>,
    ) -> Result<Report> {
        let Some(key) = key else {
            let id = ContainerId::from_bits(rand::random());
            let _lock = self.locks.lock(&id).await;
            return self.create_once(id, owner, &wanted).await;
        };
        // Whose container is not known yet must not be made another one.
        self.know()?;
        let key = digest(&[owner, &key.0]);
        let digest = digest(&[&format!("{wanted:?}")]);
        loop {
            let now = self.clock.now().at;
            let attempt = Attempt { id: ContainerId::from_bits(rand::random()), digest: digest.clone(), at: now };
            // Whoever finds the attempt waits for this lock, so that it is taken before there is one to find.
            let lock = self.locks.lock(&attempt.id).await;
            let Some(first) = self.store.begin_attempt(&key, &attempt, now - KEY_LIFE).await? else {
                passed(Step::CreateBegun);
                let outcome = self.create_once(attempt.id.clone(), owner, &wanted).await;
                // What became unreachable half-way may stand all the same; a repeated create finds it then.
                if outcome.as_ref().is_err_and(|e| e.kind() != Kind::Unavailable) {
                    self.store.abandon_attempt(&key, &attempt.id).await?;
                }
                return outcome;
            };
            drop(lock);
            if first.digest != digest {
                return Err(Error::conflict("Idempotency-Key: this key was used for another request; use a new one"));
            }
            // The first one may still be at it.
            let _lock = self.locks.lock(&first.id).await;
            if let Some(entry) = self.snapshot.get(&first.id) {
                return Ok(self.report(&entry));
            }
            // It failed, or was cut off, or its container has been removed since. What it left may have the name; it may
            // also be at work on another server.
            if !self.store.is_shared() {
                self.clear_attempt(&first.id).await?;
            }
            self.store.abandon_attempt(&key, &first.id).await?;
        }
    }

    /// Makes the container. The caller holds its lock.
    async fn create_once(&self, id: ContainerId, owner: &str, wanted: &NewContainer) -> Result<Report> {
        self.require_disk().await?;
        let image = self.wanted_image(&wanted.image).await?;
        if image.exposed.is_empty() {
            let message = format!("image: {:?} exposes no port, so nobody could reach it", wanted.image);
            return Err(Error::new(Kind::Unsuitable, message));
        }
        for volume in wanted.volumes.values() {
            self.engine.ensure_volume(volume, owner).await?;
        }
        let mut avoid = BTreeSet::new();
        loop {
            match self.create_at_a_place(&id, owner, wanted, &image, &avoid).await {
                // Somebody else has one of the ports: an address on another place, and not this one again.
                Err((error, Some(place)))
                    if error.kind() == Kind::Conflict && avoid.len() < PLACES * place.ports.len() =>
                {
                    avoid.extend(place.ports.iter().map(|p| p.host));
                }
                Err((error, _)) => return Err(error),
                Ok(()) => break,
            }
        }
        self.touch(&id);
        self.await_ssh(&id, SSH_PATIENCE).await;
        tracing::info!(container = %id, image = wanted.image, owner, "container created");
        Ok(self.report(&self.snapshot.require(&id)?))
    }

    /// What the image says of itself.
    pub(super) async fn wanted_image(&self, name: &str) -> Result<Image> {
        self.engine.image(name).await.map_err(|error| match error.kind() {
            Kind::NotFound => Error::new(
                Kind::Unsuitable,
                format!("image: {name:?} is not on the host; GET /v1/images lists what is"),
            ),
            _ => error,
        })
    }

    /// One try. A failure that another place may mend comes with the place.
    async fn create_at_a_place(
        &self,
        id: &ContainerId,
        owner: &str,
        wanted: &NewContainer,
        image: &Image,
        avoid: &BTreeSet<u16>,
    ) -> std::result::Result<(), (Error, Option<Place>)> {
        let flight = InFlight::begin(self, id);
        let place = self.claim_place(id, image, avoid).await.map_err(|e| (e, None))?;
        passed(Step::CreateClaimed);
        let outcome = match self.make(id, owner, wanted, image, &place).await {
            Ok(engine_id) => {
                passed(Step::CreateMade);
                let outcome = match self.set_up(&engine_id, wanted, image).await {
                    // It is taken up as one that was adopted: whatever cuts this off leaves a container like any other.
                    Ok(()) => {
                        drop(flight);
                        self.look_again(id, &engine_id).await.map_err(|error| (error, None))
                    }
                    Err((error, started)) => Err((error, started.then_some(place))),
                };
                let Err(failure) = outcome else {
                    passed(Step::CreateTakenUp);
                    return Ok(());
                };
                (failure, self.discard(id, &engine_id, &Removal::default()).await)
            }
            Err(error) => ((error, None), self.forget(id).await),
        };
        let (failure, discarded) = outcome;
        if let Err(error) = discarded {
            tracing::warn!(container = %id, error = error.message(), "what a failed create made is left for reconcile");
        }
        Err(failure)
    }

    /// Chooses ports and an address, and claims them.
    async fn claim_place(&self, id: &ContainerId, image: &Image, avoid: &BTreeSet<u16>) -> Result<Place> {
        let settings = &self.settings;
        let (mut ports, mut addresses) = (avoid.clone(), BTreeSet::new());
        for (claim, _) in self.store.claims(&settings.host).await? {
            take(claim, &mut ports, &mut addresses);
        }
        // What was adopted may not be claimed yet.
        for claim in self.snapshot.read().entries().flat_map(|e| e.container.claims()) {
            take(claim, &mut ports, &mut addresses);
        }
        for _ in 0..PLACES {
            let place = {
                let mut cursor = self.cursor.locked();
                let chosen = placement::choose_ports(settings.ports.clone(), &ports, cursor.port, image.exposed.len());
                let Some(chosen) = chosen else {
                    let message = format!(
                        "no port is left: all of {} to {} belong to containers; DELETE some, or widen ports.first and ports.last",
                        settings.ports.start(),
                        settings.ports.end()
                    );
                    return Err(Error::new(Kind::Exhausted, message));
                };
                let all = self.addresses.iter().copied();
                let Some(address) = placement::choose_address(all, &addresses, cursor.address) else {
                    let message = format!(
                        "no address is left in {}: DELETE some containers, or widen network.subnet",
                        settings.network.subnet
                    );
                    return Err(Error::new(Kind::Exhausted, message));
                };
                cursor.port = chosen.last().copied();
                cursor.address = Some(address);
                let exposed = image.exposed.iter().zip(chosen);
                let ports = exposed.map(|((container, protocol), host)| Port {
                    container: *container,
                    host,
                    protocol: *protocol,
                });
                Place { ports: ports.collect(), address }
            };
            match self.store.claim(&settings.host, &place.claims(), id).await? {
                None => return Ok(place),
                Some(taken) => take(taken, &mut ports, &mut addresses),
            }
        }
        Err(Error::unavailable("other servers keep claiming the same ports: try again"))
    }

    /// Has the engine make the container.
    async fn make(
        &self,
        id: &ContainerId,
        owner: &str,
        wanted: &NewContainer,
        image: &Image,
        place: &Place,
    ) -> Result<EngineId> {
        let settings = &self.settings;
        let of_image = image.idle_timeout().unwrap_or_else(|fault| {
            tracing::warn!(container = %id, image = wanted.image, "{}", fault.message());
            None
        });
        let idle_timeout = wanted.idle_timeout.or(of_image).unwrap_or(settings.idle_timeout);
        let mut labels =
            Container::birth_labels(&settings.instance, id, owner, idle_timeout, wanted.wake, &wanted.labels);
        labels.extend(wanted.rungs.birth_labels());
        let blueprint = Blueprint {
            id: id.clone(),
            name: wanted.name.clone(),
            hostname: None,
            image: wanted.image.clone(),
            command: wanted.command.clone(),
            env: wanted.env.clone(),
            labels,
            ports: place.ports.clone(),
            bind: settings.bind,
            network: settings.network.name.clone(),
            address: place.address,
            limits: Limits {
                memory: wanted.memory.unwrap_or(settings.limits.memory),
                cpus: wanted.cpus.unwrap_or(settings.limits.cpus),
                ..settings.limits
            },
            volumes: wanted.volumes.clone(),
        };
        self.engine.create(&blueprint).await
    }

    /// Puts the keys in and starts the container. A failure tells whether starting was what failed.
    ///
    /// Nothing is written down before it runs: what was never started was handed to nobody, and is cleared away.
    async fn set_up(
        &self,
        engine_id: &EngineId,
        wanted: &NewContainer,
        image: &Image,
    ) -> std::result::Result<(), (Error, bool)> {
        let early = |error| (error, false);
        if let Some(keys) = &wanted.authorized_keys {
            self.put_first_keys(engine_id, image, keys).await.map_err(early)?;
            passed(Step::CreateKeysPut);
        }
        self.start_at_engine(engine_id).await.map_err(|error| (error, true))?;
        passed(Step::CreateStarted);
        Ok(())
    }
}

/// While it lives the container is not adopted, nor taken for a leftover; however its making ends.
struct InFlight<'a> {
    spindown: &'a Spindown,
    id: ContainerId,
}

impl<'a> InFlight<'a> {
    fn begin(spindown: &'a Spindown, id: &ContainerId) -> Self {
        spindown.in_flight.locked().insert(id.clone());
        Self { spindown, id: id.clone() }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.spindown.in_flight.locked().remove(&self.id);
    }
}

fn take(claim: Claim, ports: &mut BTreeSet<u16>, addresses: &mut BTreeSet<std::net::Ipv4Addr>) {
    match claim {
        Claim::Port(port) => ports.insert(port),
        Claim::Address(address) => addresses.insert(address),
    };
}

/// A digest of these texts: the store needs no more of them.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
