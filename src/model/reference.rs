//! The name of an image as it is pulled and removed: `[registry/]path[:tag][@digest]`.

use std::fmt;

use super::{Error, Result};

/// The longest name taken.
const LONGEST: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;
/// The one algorithm of digests, and how many hex digits it has.
const DIGEST: (&str, usize) = ("sha256:", 64);

/// A name that means one image: never all of a path's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// Reads a name. Without a tag or a digest, the tag `latest` is meant.
    ///
    /// # Errors
    /// `Invalid` if it cannot be an image's name.
    pub fn parse(text: &str) -> Result<Self> {
        let clipped: String = text.chars().take(64).collect();
        let refused = || {
            let example = "write [registry/]path[:tag], in small letters (spindown/ssh:latest)";
            Error::invalid(format!("{clipped:?} cannot be an image's name: {example}"))
        };
        if text.len() > LONGEST {
            return Err(refused());
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let path_begins = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[path_begins..].split_once(':') {
            Some((last, tag)) => (&rest[..path_begins + last.len()], Some(tag)),
            None => (rest, None),
        };
        if !is_repository(repository) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return Err(refused());
        }
        let tag = tag.or_else(|| digest.is_none().then_some("latest")).map(str::to_owned);
        Ok(Self { repository: repository.to_owned(), tag, digest: digest.map(str::to_owned) })
    }

    /// The registry and the path.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// What tells the image from others of its path: the digest, or else the tag.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or_default()
    }

    /// The registry, if the name has one; otherwise it is the engine's own choice.
    pub fn registry(&self) -> Option<&str> {
        self.repository.split_once('/').map(|(first, _)| first).filter(|first| is_registry(first))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the first part of a name is a registry's rather than the path's: as the engine tells them apart.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_repository(text: &str) -> bool {
    let path = match text.split_once('/') {
        Some((first, path)) if is_registry(first) => {
            if !is_host(first) {
                return false;
            }
            path
        }
        _ => text,
    };
    // The engine takes such a path for an image's id.
    let like_an_id = text.len() == DIGEST.1 && text.bytes().all(|b| b.is_ascii_hexdigit());
    !like_an_id && path.split('/').all(is_part)
}

/// A host with an optional port.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
}

/// A part of a path: small letters and digits, with single dots, one or two underscores, or dashes between them.
fn is_part(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = text.bytes().all(|b| word(b) || matches!(b, b'.' | b'_' | b'-'));
    let ends = text.bytes().next().is_some_and(word) && text.bytes().last().is_some_and(word);
    let separators = text.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty());
    good && ends && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    first && text.len() <= LONGEST_TAG && text.bytes().all(good)
}

fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    text.strip_prefix(DIGEST.0).is_some_and(|digits| digits.len() == DIGEST.1 && digits.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_means_one_image() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (text, repository, version, whole) in [
            ("debian", "debian", "latest", "debian:latest"),
            ("spindown/ssh", "spindown/ssh", "latest", "spindown/ssh:latest"),
            ("a/b/c:1.0-rc_1", "a/b/c", "1.0-rc_1", "a/b/c:1.0-rc_1"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x", "latest", "127.0.0.1:5000/x:latest"),
            ("Host.example/a__b/c.d:V", "Host.example/a__b/c.d", "V", "Host.example/a__b/c.d:V"),
            (&format!("a@{digest}"), "a", &digest, &format!("a@{digest}")),
            (&format!("a:1@{digest}"), "a", &digest, &format!("a:1@{digest}")),
        ] {
            let read = ImageReference::parse(text).unwrap();
            assert_eq!((read.repository(), read.version()), (repository, version), "{text}");
            assert_eq!(read.to_string(), whole);
            assert_eq!(ImageReference::parse(whole).unwrap(), read);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("a/{}", "b".repeat(254));
        let id = "0f".repeat(32);
        let tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/../b",
            "A/B/C",
            "a b",
            "a?b=c",
            "a%2e",
            "é",
            "a:",
            "a:b:c",
            ":1",
            "a:-1",
            "a@",
            "a@sha256:00",
            "a@md5:00",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "h.x:0/a",
            "h.x:99999/a",
            "h.x:/a",
            ".x/a",
            "a\n",
            &long,
            &id,
            &tag,
        ] {
            let message = ImageReference::parse(bad).unwrap_err().message().to_owned();
            assert!(message.contains("cannot be an image's name") && message.len() < 300, "{message}");
        }
    }

    #[test]
    fn the_registry_is_the_first_part_that_can_be_one() {
        for (text, registry) in [
            ("a", None),
            ("a/b", None),
            ("a.example/b", Some("a.example")),
            ("localhost/b", Some("localhost")),
            ("127.0.0.1:5000/b:1", Some("127.0.0.1:5000")),
        ] {
            assert_eq!(ImageReference::parse(text).unwrap().registry(), registry, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-zA-Z0-9./:@_-]{0,60}|.{0,60}") {
            if let Ok(read) = ImageReference::parse(&text) {
                prop_assert_eq!(ImageReference::parse(&read.to_string()).unwrap(), read);
            }
        }
    }
}
