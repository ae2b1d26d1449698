//! Pulling an image: what a registry is told, and how far it has come.

use std::fmt;

use super::ImageReference;

/// What proves to a registry who asks. It passes through and is kept nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The user's name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// In place of both: a token for which the registry gives another.
    pub identity_token: Option<String>,
    /// In place of both: a token that the registry takes as it is.
    pub registry_token: Option<String>,
    /// The registry that they are for.
    pub server: Option<String>,
}

impl RegistryCredentials {
    /// All that must not be read by anybody.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let all = [&self.username, &self.password, &self.identity_token, &self.registry_token];
        all.into_iter().filter_map(Option::as_deref).filter(|text| !text.is_empty())
    }

    /// Whether an image is at the registry that they are for, as far as both tell. Nobody else is to be sent them.
    pub fn suit(&self, image: &ImageReference) -> bool {
        let (Some(registry), Some(server)) = (image.registry(), &self.server) else { return true };
        let host = server.split_once("://").map_or(server.as_str(), |(_, rest)| rest);
        host.split('/').next().is_some_and(|host| host.eq_ignore_ascii_case(registry))
    }
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(…)")
    }
}

/// What is being done to an image, or to one of its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStep {
    /// The image was found, and its layers are looked through.
    Pulling,
    /// The layer is to be loaded.
    Waiting,
    /// It is being loaded.
    Downloading,
    /// It is here, and checked or about to be.
    Downloaded,
    /// It is being unpacked.
    Extracting,
    /// It is in place.
    Complete,
}

impl PullStep {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "pulling",
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Downloaded => "downloaded",
            Self::Extracting => "extracting",
            Self::Complete => "complete",
        }
    }
}

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// What is being done.
    pub step: PullStep,
    /// To which layer; without one, to the image.
    pub layer: Option<String>,
    /// The bytes that are done, while downloading and extracting.
    pub current: Option<u64>,
    /// The bytes that there are, where that is known.
    pub total: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_no_other_registry() {
        let suit = |server: &str, image: &str| {
            let credentials = RegistryCredentials { server: Some(server.to_owned()), ..Default::default() };
            credentials.suit(&ImageReference::parse(image).unwrap())
        };
        for server in ["h.x:5000", "H.x:5000", "https://h.x:5000", "http://h.x:5000/v2/"] {
            assert!(suit(server, "h.x:5000/a:1"), "{server}");
            assert!(!suit(server, "h.x/a:1") && !suit(server, "other.x:5000/a"), "{server}");
        }
        assert!(suit("h.x", "a/b"), "where that is, only the engine knows");
        let anywhere = RegistryCredentials::default();
        assert!(anywhere.suit(&ImageReference::parse("h.x/a").unwrap()));
    }
}
