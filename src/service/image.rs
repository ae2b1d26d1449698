//! Images: what the engine has.

use super::Spindown;
use crate::model::Result;

impl Spindown {
    /// The tags of the engine's images, sorted.
    ///
    /// # Errors
    /// `Unavailable` if the engine does not answer.
    pub async fn images(&self) -> Result<Vec<String>> {
        self.engine.images().await
    }
}
