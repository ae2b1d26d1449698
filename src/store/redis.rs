//! The store in Redis, for several servers over one state. Redis 6 or newer.
//!
//! Keys, all in one slot of a cluster through the braces (`docs/store.md` tells what they mean to people):
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{prefix}:format` | string | the version of this layout |
//! | `{prefix}:containers` | hash | container id -> container record (JSON) |
//! | `{prefix}:activity` | hash | container id -> `last use`, `last check-in`, its `connections`, with spaces between |
//! | `{prefix}:claims:<host>` | hash | `port/<n>` or `address/<a>` -> id of the holder |
//! | `{prefix}:attempt:<sha256 of the key>` | string | attempt record (JSON), expires after 25 hours |
//!
//! Dates in an activity are nanoseconds since 1970 in decimal, so that a script can compare them exactly.
//! A write that ends in `Unavailable` may have been done, or may be done yet: a server that hangs takes it up later.

mod backup;
mod link;
mod moment;
mod script;

use async_trait::async_trait;
use redis::ScriptInvocation;
use time::OffsetDateTime;

pub use self::backup::Seen;
use self::{
    link::{Link, Repeat, Request},
    script::Scripts,
};
use super::{ActivityStore, Attempt, AttemptStore, ClaimStore, ContainerStore, Store, backup::AttemptKey, record};
use crate::model::{Activity, Claim, Container, ContainerId, Error, HostName, Kind, Result};

/// The layout of the keys that this Spindown knows.
const FORMAT: u64 = 1;
/// How long an attempt is kept: longer than any is valid.
const ATTEMPT_SECONDS: u64 = 25 * 3600;

/// The store in Redis.
pub struct Redis {
    link: Link,
    prefix: String,
    scripts: Scripts,
}

impl Redis {
    /// Connects to the server at `url`; all keys begin with `prefix` in braces.
    ///
    /// # Errors
    /// `Invalid` for an address or a prefix that cannot be used, `Unavailable` if the server does not answer,
    /// `Internal` if a newer Spindown wrote there.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self> {
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(Error::invalid("the prefix of the keys in Redis may not be empty or hold braces"));
        }
        let store =
            Self { link: Link::connect(url, prefix).await?, prefix: prefix.to_owned(), scripts: Scripts::new() };
        store.check_format().await?;
        store.warn_of_forgetfulness().await;
        Ok(store)
    }

    async fn check_format(&self) -> Result<()> {
        let key = self.key("format");
        self.command::<i64>(redis::cmd("SETNX").arg(&key).arg(FORMAT)).await?;
        let format: String = self.command(redis::cmd("GET").arg(&key)).await?;
        if format.parse() == Ok(FORMAT) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Internal,
            format!(
                "what lies in Redis at {} under {key} is of format {format:?}, this Spindown knows {FORMAT}: upgrade this \
                 server, or restore a backup into another database of Redis",
                self.link.address()
            ),
        ))
    }

    /// Tells the operator of settings with which Redis loses what it acknowledged.
    async fn warn_of_forgetfulness(&self) {
        // Not every user may ask.
        let Ok(info) = self.command::<String>(&redis::cmd("INFO")).await else { return };
        let says = |setting: &str| info.lines().any(|line| line.trim_end() == setting);
        if says("aof_enabled:0") {
            tracing::warn!("Redis keeps no append-only file: when it goes down, what was written last is lost");
        }
        if info.lines().any(|line| line.starts_with("maxmemory_policy:allkeys")) {
            tracing::warn!("Redis may evict any key when its memory is full: set maxmemory-policy to noeviction");
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }

    fn claims_key(&self, host: &HostName) -> String {
        self.key(&format!("claims:{}", host.as_str()))
    }

    fn attempt_key(&self, key: &AttemptKey) -> String {
        self.key(&format!("attempt:{}", key.as_str()))
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        self.link.ask(Request::Command(command), Repeat::Harmless).await
    }

    async fn run(&self, script: &ScriptInvocation<'_>, repeat: Repeat) -> Result<Option<String>> {
        self.link.ask(Request::Script(script), repeat).await
    }
}

#[async_trait]
impl ContainerStore for Redis {
    async fn containers(&self) -> Result<Vec<Container>> {
        let all: Vec<(String, Vec<u8>)> = self.command(redis::cmd("HGETALL").arg(self.key("containers"))).await?;
        all.iter().map(|(id, bytes)| record::read(id, bytes)).collect()
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        let get = redis::cmd("HGET").arg(self.key("containers")).arg(id.as_str()).take();
        let bytes: Option<Vec<u8>> = self.command(&get).await?;
        bytes.map(|bytes| record::read(id.as_str(), &bytes)).transpose()
    }

    async fn put_container(&self, container: &Container) -> Result<u64> {
        let next = record::next_version(container)?;
        let mut put = self.scripts.put.key(self.key("containers"));
        put.arg(next.id.as_str()).arg(container.version).arg(record::write(&next)?).arg(record::VERSION);
        match self.run(&put, Repeat::Never).await? {
            None => Ok(next.version),
            Some(nothing) if nothing.is_empty() => Err(record::stale(&next.id)),
            Some(stored) => {
                record::read::<Container>(next.id.as_str(), stored.as_bytes())?;
                Err(record::stale(&next.id))
            }
        }
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let mut remove = self.scripts.remove.key(self.key("containers"));
        remove.key(self.key("activity")).arg(id.as_str());
        self.run(&remove, Repeat::Harmless).await.map(drop)
    }
}

#[async_trait]
impl ActivityStore for Redis {
    async fn activities(&self) -> Result<Vec<(ContainerId, Activity)>> {
        let all: Vec<(String, String)> = self.command(redis::cmd("HGETALL").arg(self.key("activity"))).await?;
        let read = |(id, text): &(String, String)| {
            let activity = moment::read(text);
            ContainerId::parse(id).ok().zip(activity).ok_or_else(|| record::damaged("activity of", id))
        };
        all.iter().map(read).collect()
    }

    async fn activity(&self, id: &ContainerId) -> Result<Option<Activity>> {
        let get = redis::cmd("HGET").arg(self.key("activity")).arg(id.as_str()).take();
        let text: Option<String> = self.command(&get).await?;
        text.map(|text| moment::read(&text).ok_or_else(|| record::damaged("activity of", id.as_str()))).transpose()
    }

    async fn merge_activities(&self, activities: &[(ContainerId, Activity)]) -> Result<()> {
        if activities.is_empty() {
            return Ok(());
        }
        let mut merge = self.scripts.merge.key(self.key("activity"));
        for (id, activity) in activities {
            merge.arg(id.as_str()).arg(&moment::write(activity)[..]);
        }
        match self.run(&merge, Repeat::Harmless).await? {
            None => Ok(()),
            Some(id) => Err(record::damaged("activity of", &id)),
        }
    }
}

#[async_trait]
impl ClaimStore for Redis {
    async fn claim(&self, host: &HostName, claims: &[Claim], holder: &ContainerId) -> Result<Option<Claim>> {
        let mut claim = self.scripts.claim.key(self.claims_key(host));
        claim.arg(holder.as_str());
        for one in claims {
            claim.arg(record::claim_key(one));
        }
        let held = self.run(&claim, Repeat::Harmless).await?;
        held.map(|key| record::read_claim(&key)).transpose()
    }

    async fn claims(&self, host: &HostName) -> Result<Vec<(Claim, ContainerId)>> {
        let all: Vec<(String, String)> = self.command(redis::cmd("HGETALL").arg(self.claims_key(host))).await?;
        all.iter().map(|(key, holder)| Ok((record::read_claim(key)?, record::read_holder(key, holder)?))).collect()
    }

    async fn release(&self, host: &HostName, holder: &ContainerId) -> Result<()> {
        let mut release = self.scripts.release.key(self.claims_key(host));
        release.arg(holder.as_str());
        self.run(&release, Repeat::Harmless).await.map(drop)
    }
}

#[async_trait]
impl AttemptStore for Redis {
    async fn begin_attempt(&self, key: &str, attempt: &Attempt, valid_from: OffsetDateTime) -> Result<Option<Attempt>> {
        let (place, new) = (self.attempt_key(&AttemptKey::of(key)), record::write(attempt)?);
        let mut seen = String::new();
        // Goes round again only when what was seen is out of date, or was replaced meanwhile.
        loop {
            let mut replace = self.scripts.replace.key(&place);
            replace.arg(&seen).arg(&new).arg(ATTEMPT_SECONDS);
            let Some(stored) = self.run(&replace, Repeat::Never).await? else { return Ok(None) };
            if !stored.is_empty() {
                let found: Attempt = record::read(key, stored.as_bytes())?;
                if found.at >= valid_from {
                    return Ok(Some(found));
                }
            }
            seen = stored;
        }
    }

    async fn abandon_attempt(&self, key: &str, id: &ContainerId) -> Result<()> {
        let place = self.attempt_key(&AttemptKey::of(key));
        let Some(seen): Option<String> = self.command(redis::cmd("GET").arg(&place)).await? else { return Ok(()) };
        if record::read::<Attempt>(key, seen.as_bytes())?.id == *id {
            let mut forget = self.scripts.forget.key(&place);
            forget.arg(seen);
            self.run(&forget, Repeat::Harmless).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Redis {
    async fn ping(&self) -> Result<()> {
        self.command::<String>(&redis::cmd("PING")).await.map(drop)
    }

    fn is_shared(&self) -> bool {
        true
    }
}
