//! Users: who calls. Today there is one, the administrator.

use std::{collections::HashMap, fmt, sync::Mutex, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, PasswordHash, Salt},
    },
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::{Spindown, Unpoisoned};
use crate::model::{Error, Kind, Moment, Result};

/// For how long a password that was right need not be hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many are remembered.
const MOST_REMEMBERED: usize = 64;
/// How many passwords are hashed at once: each takes 25 ms of a processor and 19 MiB.
const HASHES_AT_ONCE: usize = 2;
/// What is at least asked for to hash one. The allocator of glibc gives what is larger than 32 MiB back when it is freed;
/// of what is smaller it keeps some for each thread, which came to hundreds of MiB. What is not used takes no memory.
const GIVEN_BACK: usize = 33 << 20;
/// How many may wait for that; more are turned away.
const HASHES_WAITING: usize = 64;

/// A user's name and the hash of the password, in PHC format (`$argon2id$…`).
#[derive(Clone)]
pub struct Credentials {
    name: String,
    hash: String,
}

impl Credentials {
    /// Takes a hash from the configuration.
    ///
    /// # Errors
    /// `Invalid` if it is no argon2 hash.
    pub fn new(name: &str, hash: &str) -> Result<Self> {
        let readable = PasswordHash::new(hash).is_ok_and(|h| h.algorithm.as_str().starts_with("argon2"));
        if !readable {
            return Err(Error::invalid("not an argon2 hash: make one with `spindown hash-password`"));
        }
        Ok(Self { name: name.to_owned(), hash: hash.to_owned() })
    }

    /// Hashes a password with a salt of its own.
    ///
    /// # Errors
    /// `Internal` if the machine gives no random numbers.
    pub fn with_password(name: &str, password: &str) -> Result<Self> {
        let hash = make_hash(password)
            .map_err(|e| Error::new(Kind::Internal, "the password cannot be hashed").caused_by(e.to_string()))?;
        Ok(Self { name: name.to_owned(), hash: hash.to_string() })
    }

    /// The hash, to be put into the configuration.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether these are the name and the password. Takes a processor for 25 ms.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        // The hash is computed for a wrong name too: how long it takes tells nothing.
        let right_name = self.name.as_bytes().ct_eq(name.as_bytes());
        let right = is_hash_of(&self.hash, password).unwrap_or(false);
        bool::from(right_name & u8::from(right).into())
    }
}

/// Whether the password has this hash; `None` if that cannot be computed.
fn is_hash_of(hash: &str, password: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let (salt, expected) = (hash.salt?, hash.hash?);
    let argon2 = Argon2::new(algorithm, version, params);
    let found = compute(&argon2, password, salt.as_ref(), expected.as_bytes().len()).ok()?;
    Some(found.ct_eq(expected.as_bytes()).into())
}

/// The hash of a password, with a salt of its own.
fn make_hash(password: &str) -> password_hash::Result<PasswordHash> {
    let (argon2, salt) = (Argon2::default(), rand::random::<[u8; Salt::RECOMMENDED_LENGTH]>());
    let hash = compute(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
    Ok(PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: argon2.params().try_into()?,
        salt: Some(Salt::new(&salt)?),
        hash: Some(Output::new(&hash)?),
    })
}

/// Hashes, in memory that is given back.
fn compute(argon2: &Argon2<'_>, password: &str, salt: &[u8], length: usize) -> argon2::Result<Vec<u8>> {
    let blocks = argon2.params().block_count();
    let mut memory = Vec::with_capacity(blocks.max(GIVEN_BACK / Block::SIZE));
    memory.resize(blocks, Block::new());
    let mut hash = vec![0; length];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, &mut memory)?;
    Ok(hash)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Knows who is who, and remembers it for a short while.
pub(super) struct Doorman {
    admin: Credentials,
    /// Digests keep apart what was right from what was not; the key is of this run, and known to nobody.
    key: [u8; 32],
    known: Mutex<HashMap<[u8; 32], Moment>>,
    turns: Semaphore,
    waiting: Semaphore,
}

impl Doorman {
    pub(super) fn new(admin: Credentials) -> Self {
        Self {
            admin,
            key: rand::random(),
            known: Mutex::default(),
            turns: Semaphore::new(HASHES_AT_ONCE),
            waiting: Semaphore::new(HASHES_WAITING),
        }
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.key);
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(password);
        hash.finalize().into()
    }
}

impl Spindown {
    /// Whether `password` is that of `name`.
    ///
    /// # Errors
    /// `Unauthorized` if it is not; `TooMany` if more than can be checked are waiting.
    pub async fn authenticate(&self, name: &str, password: &str) -> Result<()> {
        let doorman = &self.doorman;
        let digest = doorman.digest(name, password);
        let now = self.clock.now().moment;
        if doorman.known.locked().get(&digest).is_some_and(|at| now.since(*at) < REMEMBERED) {
            return Ok(());
        }
        let crowded = |_| Error::new(Kind::TooMany, "too many passwords are being checked: try again in a second");
        let _place = doorman.waiting.try_acquire().map_err(crowded)?;
        let _turn = doorman.turns.acquire().await.map_err(|_| Error::unavailable("the server is shutting down"))?;
        let (admin, name, password) = (doorman.admin.clone(), name.to_owned(), password.to_owned());
        let right = tokio::task::spawn_blocking(move || admin.verify(&name, &password)).await.unwrap_or(false);
        if !right {
            return Err(Error::new(Kind::Unauthorized, "wrong user name or password"));
        }
        let mut known = doorman.known.locked();
        known.retain(|_, at| now.since(*at) < REMEMBERED);
        if known.len() < MOST_REMEMBERED {
            known.insert(digest, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    #[test]
    fn only_name_and_password_together_are_right() {
        let admin = Credentials::with_password("admin", "secret").unwrap();
        let again = Credentials::new("admin", admin.hash()).unwrap();
        assert!(again.verify("admin", "secret"));
        for (name, password) in [("admin", "wrong"), ("root", "secret"), ("", ""), ("admin", "")] {
            assert!(!again.verify(name, password), "{name} {password}");
        }
        assert!(Credentials::new("admin", "secret").is_err());
        assert!(!format!("{admin:?}").contains("argon2"));
    }

    #[test]
    fn what_the_hash_says_of_its_making_is_heeded() {
        let params = Params::new(4_096, 1, 2, Some(24)).unwrap();
        for (algorithm, version) in [(Algorithm::Argon2i, Version::V0x13), (Algorithm::Argon2d, Version::V0x10)] {
            let hash = Argon2::new(algorithm, version, params.clone()).hash_password(b"secret").unwrap().to_string();
            let user = Credentials::new("admin", &hash).unwrap();
            assert!(user.verify("admin", "secret") && !user.verify("admin", "wrong"), "{hash}");
        }
    }

    /// The memory of this process in KiB.
    fn memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn hashing_passwords_keeps_no_memory() {
        let admin = Credentials::with_password("admin", "secret").unwrap();
        let before = memory();
        for _ in 0..4 {
            // Each thread may get a part of the allocator of its own.
            std::thread::scope(|threads| {
                for _ in 0..HASHES_AT_ONCE {
                    threads.spawn(|| admin.verify("admin", "wrong"));
                }
            });
        }
        // Nor does the allocator keep what others free because it was asked for so much at once.
        drop((0..12 << 10).map(|_| vec![1_u8; 1 << 10]).collect::<Vec<_>>());
        assert!(memory() < before + (6 << 10), "{before} KiB became {} KiB", memory());
    }
}
