//! An image, as far as handing out containers needs to know it.

use std::collections::BTreeMap;

use super::{DEFAULT, Error, IMAGE_PREFIX, Protocol, Result, Timeout};

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
    /// After how much idleness containers of it are stopped, if it says so.
    ///
    /// # Errors
    /// `Invalid`, naming the label, if what it says cannot be read.
    pub fn idle_timeout(&self) -> Result<Option<Timeout>> {
        let label = format!("{IMAGE_PREFIX}idle_timeout");
        match self.labels.get(&label) {
            Some(text) if text.trim() != DEFAULT => Timeout::parse(text)
                .map(Some)
                .map_err(|error| Error::invalid(format!("the label {label}: {}", error.message()))),
            _ => Ok(None),
        }
    }

    /// The user who logs in: the one the label names, root without it.
    pub fn ssh_user(&self) -> &str {
        self.labels.get(SSH_USER_LABEL).map_or("root", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_timeout_that_cannot_be_read_is_named() {
        let of = |text: &str| {
            let labels = [("spindown.idle_timeout".to_owned(), text.to_owned())].into();
            Image { labels, ..Image::default() }.idle_timeout()
        };
        assert_eq!(of("90m").unwrap().and_then(Timeout::seconds), Some(5_400));
        assert_eq!(of("never").unwrap(), Some(Timeout::Never));
        assert_eq!(of("default").unwrap(), None, "as with the other labels of the ladder");
        assert_eq!(Image::default().idle_timeout().unwrap(), None);
        let error = of("soon").unwrap_err();
        assert!(error.message().starts_with("the label spindown.idle_timeout: \"soon\" is not"), "{error}");
    }
}
