//! Our nftables tables: what containers may reach. `rules` writes them down, `nft` applies them to the kernel.

pub mod nft;
pub mod rules;

use async_trait::async_trait;

use crate::model::Result;

/// The rules that keep the containers from each other, from the host and from what only the host may reach.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// Puts the rules in place if they are not as they should be; answers whether it had to.
    async fn ensure(&self) -> Result<bool>;

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

    async fn remove(&self) -> Result<()> {
        Ok(())
    }
}
