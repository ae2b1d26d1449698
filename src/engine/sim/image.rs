//! Images of a simulated engine: what registries have, and what containers use.

use std::sync::{Arc, Mutex};

use futures::{StreamExt, stream::BoxStream};

use super::{Call, Sim, locked, world};
use crate::model::{Error, Image, ImageReference, Kind, PullProgress, PullStep, RegistryCredentials, Result};

/// An image at a registry.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) image: Image,
    /// Who may have it: everybody, or who knows this name and password.
    pub(super) keeper: Option<(String, String)>,
}

/// The one layer that every simulated image has, and its size.
const LAYER: (&str, u64) = ("0123456789ab", 1 << 20);

/// What a pull tells, in order.
const STEPS: [PullStep; 6] = [
    PullStep::Pulling,
    PullStep::Waiting,
    PullStep::Downloading,
    PullStep::Downloaded,
    PullStep::Extracting,
    PullStep::Complete,
];

/// Begins to pull an image. Each step may be held up or fail ([`Call::PullStep`]).
pub(super) async fn pull(
    sim: &Sim,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
) -> Result<BoxStream<'static, Result<PullProgress>>> {
    let (name, world) = (image.to_string(), Arc::clone(&sim.world));
    let found = sim.enter(Call::Pull).await?.registry.get(&name).cloned();
    let found = found.ok_or_else(|| Error::not_found(format!("the registry has no image \"{name}\"")))?;
    let known = credentials.and_then(|c| c.username.clone().zip(c.password.clone()));
    if found.keeper.is_some() && found.keeper != known {
        let message =
            format!("the registry does not let \"{name}\" be pulled: X-Registry-Auth has the wrong credentials");
        return Err(Error::new(Kind::Unsuitable, message));
    }
    let pull = Pull { name, image: found.image, world, doors: sim.doors(), steps: STEPS.iter() };
    Ok(futures::stream::unfold(Some(pull), |pull| async {
        let mut pull = pull?;
        let told = pull.next().await?;
        let goes_on = told.is_ok();
        Some((told, goes_on.then_some(pull)))
    })
    .boxed())
}

struct Pull {
    name: String,
    image: Image,
    world: Arc<Mutex<world::World>>,
    doors: super::Doors,
    steps: std::slice::Iter<'static, PullStep>,
}

impl Pull {
    async fn next(&mut self) -> Option<Result<PullProgress>> {
        let step = *self.steps.next()?;
        if let Err(error) = self.doors.pass(Call::PullStep).await {
            return Some(Err(error));
        }
        let mut world = locked(&self.world);
        if !world.is_up() {
            return Some(Err(super::unreachable()));
        }
        if step == PullStep::Complete {
            world.images.insert(self.name.clone(), self.image.clone());
        }
        let moving = matches!(step, PullStep::Downloading | PullStep::Extracting).then_some(LAYER.1);
        let layer = (step != PullStep::Pulling).then(|| LAYER.0.to_owned());
        Some(Ok(PullProgress { step, layer, current: moving, total: moving }))
    }
}
