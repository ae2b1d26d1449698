//! An image, as far as handing out containers needs to know it.

use std::collections::BTreeMap;

use super::{IMAGE_PREFIX, Protocol, Timeout};

/// The label that names the user whose `authorized_keys` are filled.
const SSH_USER_LABEL: &str = "spindown.ssh.user";

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The engine's id of it: another build under the same name has another.
    pub id: String,
    /// The ports it exposes.
    pub exposed: Vec<(u16, Protocol)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// After how much idleness containers of it are stopped, if it says so in a way that can be read.
    pub fn idle_timeout(&self) -> Option<Timeout> {
        Timeout::parse(self.labels.get(&format!("{IMAGE_PREFIX}idle_timeout"))?).ok()
    }

    /// The user who logs in: the one the label names, root without it.
    pub fn ssh_user(&self) -> &str {
        self.labels.get(SSH_USER_LABEL).map_or("root", String::as_str)
    }
}
