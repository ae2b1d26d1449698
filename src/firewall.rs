//! Our nftables tables: what containers may reach, which ports are asleep, and who knocks at those that are frozen.
//! `rules` writes them down, `nft` applies them to the kernel, `nflog` hears what they log, `obstacle` looks for what
//! others have put in the way.

mod nflog;
pub mod nft;
mod obstacle;
pub mod rules;

use std::{collections::BTreeSet, net::Ipv4Addr};

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::model::{Error, Knock, Result};

/// The rules that keep the containers from each other, from the host and from what only the host may reach.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// Puts the rules in place if they are not as they should be; answers whether it had to.
    async fn ensure(&self) -> Result<bool>;

    /// Sends connections for these ports of the host to the door, and for no others; TCP only. It holds when this returns,
    /// and [`Firewall::ensure`] puts it back like the rules.
    async fn divert(&self, ports: &BTreeSet<u16>) -> Result<()>;

    /// What others have set up that keeps connections for sleeping ports from the door, and what to do about it; `None` if
    /// nothing is known to, or there is no door.
    async fn obstacle(&self) -> Result<Option<String>>;

    /// Has what comes for these containers' addresses told by [`Firewall::knocks`], and for no others. It holds when this
    /// returns, and [`Firewall::ensure`] puts it back like the rules.
    async fn watch(&self, frozen: &BTreeSet<Ipv4Addr>) -> Result<()>;

    /// What comes for the addresses that are watched, from now on. One at a time may listen. `Unavailable` if nothing can
    /// be told: with what is missing for it. The stream ends if that is lost; some may be missing if many come at once.
    async fn knocks(&self) -> Result<BoxStream<'static, Knock>>;

    /// Takes all of them away.
    async fn remove(&self) -> Result<()>;
}

/// Where the firewall is switched off in the configuration: nothing is isolated.
#[derive(Clone, Copy, Debug)]
pub struct NoFirewall;

#[async_trait]
impl Firewall for NoFirewall {
    async fn ensure(&self) -> Result<bool> {
        Ok(false)
    }

    async fn divert(&self, _ports: &BTreeSet<u16>) -> Result<()> {
        Ok(())
    }

    async fn obstacle(&self) -> Result<Option<String>> {
        Ok(None)
    }

    async fn watch(&self, _frozen: &BTreeSet<Ipv4Addr>) -> Result<()> {
        Ok(())
    }

    async fn knocks(&self) -> Result<BoxStream<'static, Knock>> {
        Err(Error::unavailable("without the firewall nobody tells what comes for a frozen container"))
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }
}
