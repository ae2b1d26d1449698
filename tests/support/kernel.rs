//! A kernel that only remembers which ports it was told are asleep.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    channel::mpsc::{UnboundedSender, unbounded},
    stream::BoxStream,
};
use spindown::{
    firewall::Firewall,
    model::{Knock, Result},
};

/// Done when the kernel has been told something else.
type Hook = Box<dyn Fn(&BTreeSet<u16>) + Send>;

/// The kernel.
#[derive(Default)]
pub struct Kernel {
    asleep: Mutex<BTreeSet<u16>>,
    hook: Mutex<Option<Hook>>,
    watched: Mutex<BTreeSet<Ipv4Addr>>,
    listener: Mutex<Option<UnboundedSender<Knock>>>,
}

impl Kernel {
    /// The ports that are asleep.
    pub fn asleep(&self) -> BTreeSet<u16> {
        locked(&self.asleep).clone()
    }

    /// The addresses of which it tells what comes for them.
    pub fn watched(&self) -> BTreeSet<Ipv4Addr> {
        locked(&self.watched).clone()
    }

    /// Something comes for a container; it is told if it is watched and anybody listens.
    pub fn knock(&self, knock: Knock) {
        if self.watched().contains(&knock.address)
            && let Some(listener) = &*locked(&self.listener)
        {
            let _ = listener.unbounded_send(knock);
        }
    }

    /// Does this whenever others are asleep from now on.
    pub fn on_change(&self, hook: impl Fn(&BTreeSet<u16>) + Send + 'static) {
        *locked(&self.hook) = Some(Box::new(hook));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Firewall for Kernel {
    async fn ensure(&self) -> Result<bool> {
        Ok(false)
    }

    async fn divert(&self, ports: &BTreeSet<u16>) -> Result<()> {
        let before = std::mem::replace(&mut *locked(&self.asleep), ports.clone());
        if before != *ports
            && let Some(hook) = &*locked(&self.hook)
        {
            hook(ports);
        }
        Ok(())
    }

    async fn obstacle(&self) -> Result<Option<String>> {
        Ok(None)
    }

    async fn watch(&self, frozen: &BTreeSet<Ipv4Addr>) -> Result<()> {
        locked(&self.watched).clone_from(frozen);
        Ok(())
    }

    async fn knocks(&self) -> Result<BoxStream<'static, Knock>> {
        let (sender, receiver) = unbounded();
        *locked(&self.listener) = Some(sender);
        Ok(receiver.boxed())
    }

    async fn remove(&self) -> Result<()> {
        self.divert(&BTreeSet::new()).await
    }
}
