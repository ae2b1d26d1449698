//! Volumes: what one is called, and where in a container it is mounted. Never a path of the host.

use std::{collections::BTreeMap, fmt};

use super::{Error, Result};

/// The longest name that the engine is asked for.
const LONGEST_NAME: usize = 128;
/// The longest path.
const LONGEST_PATH: usize = 255;
/// What a sandbox needs of its image or of the kernel: its programs, its accounts, its check-in.
const IMAGES_OWN: [&str; 13] =
    ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr"];
/// The same below `/var`.
const IMAGES_OWN_IN_VAR: [&str; 3] = ["lock", "run", "spool"];

/// The volumes of a container, by where they are mounted.
pub type Volumes = BTreeMap<MountPoint, VolumeName>;

/// A named volume of the engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// Reads a name by the engine's rule.
    ///
    /// # Errors
    /// `Invalid` for anything else, a path of the host above all.
    pub fn parse(text: &str) -> Result<Self> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && (2..=LONGEST_NAME).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!(
            "{:?} cannot be a volume's name: use 2 to {LONGEST_NAME} letters, digits, '_', '.' and '-', a letter or digit first",
            clip(text)
        )))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A directory in a container that a volume may take the place of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPoint(String);

impl MountPoint {
    /// Reads an absolute path in its plainest form.
    ///
    /// # Errors
    /// `Invalid` for any other, and for a place that a sandbox needs as its image has it.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid(format!("{:?} cannot be a mount point: {why}", clip(text))));
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        let parts: Vec<&str> = text.split('/').skip(1).collect();
        if !text.starts_with('/') || text.len() > LONGEST_PATH || !parts.iter().all(|part| plain(part)) {
            return refused("give an absolute path like /home/student, without \"..\" and a slash at the end");
        }
        match parts[..] {
            [top, ..] if IMAGES_OWN.contains(&top) => refused("the sandbox needs what its image has there"),
            ["var"] => refused("the sandbox needs what its image has there"),
            ["var", below, ..] if IMAGES_OWN_IN_VAR.contains(&below) => {
                refused("the sandbox needs what its image has there")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// Takes what the engine reports.
    pub fn from_engine(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As much of a caller's text as a message repeats.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        for good in ["ab", "alice-home", "a.b_c-9", &"x".repeat(128)] {
            assert!(VolumeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/srv", "./a", "../a", "a/b", "-a", ".ab", "a b", "a:b", "é1", &"x".repeat(129)] {
            assert!(VolumeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_point_leaves_the_sandbox_whole() {
        for good in ["/home", "/home/student", "/srv/a b", "/data", "/var/lib/db", "/root", "/etcetera", "/tmp"] {
            assert!(MountPoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "//",
            "home",
            "/home/",
            "/home//a",
            "/home/./a",
            "/home/../etc",
            "/a\n",
            "/etc",
            "/etc/cron.d",
            "/proc/1",
            "/sys",
            "/dev/shm",
            "/run",
            "/usr/local",
            "/bin",
            "/lib64",
            "/var",
            "/var/run",
            "/var/spool/cron",
            "C:\\",
            &format!("/{}", "x".repeat(255)),
        ] {
            assert!(MountPoint::parse(bad).is_err(), "{bad}");
        }
    }
}
