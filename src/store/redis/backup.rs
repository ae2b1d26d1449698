//! All that lies under the prefix, read by one script and written by one. The keys are looked for before, so an attempt
//! that begins between the two is not in the export.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{
    ATTEMPT_SECONDS, FORMAT, Redis,
    link::{Link, Repeat, Request},
    moment,
    script::Scripts,
};
use crate::{
    model::{ContainerId, Error, HostName, Kind, Result},
    store::{
        backup::{AttemptKey, BackupStore, Contents, Table, Unreadable, not_empty},
        record,
    },
};

/// The most arguments of one call, which the server bounds at a million.
const ARGUMENTS: usize = 1_000_000;
/// How many keys the server looks at between two answers when keys are looked for.
const SCANNED: usize = 1_000;

/// Of each key, the fields and values of its hash, or its value.
type Raw = BTreeMap<String, Vec<Vec<u8>>>;

/// What a look at a server showed.
#[derive(Debug, Default)]
pub struct Seen {
    /// The server's version, where it tells.
    pub version: Option<String>,
    /// Whether it keeps an append-only file, where it tells.
    pub keeps_every_write: Option<bool>,
    /// Whether it saves snapshots, where it tells.
    pub keeps_snapshots: Option<bool>,
    /// What it does when its memory is full, where it tells.
    pub eviction: Option<String>,
    /// How many containers there are records of.
    pub containers: usize,
    /// Records that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl Redis {
    /// Looks at what lies under `prefix` on the server at `url`, and changes nothing.
    ///
    /// # Errors
    /// Those of [`Redis::connect`].
    pub async fn look(url: &str, prefix: &str) -> Result<Seen> {
        let store =
            Self { link: Link::connect(url, prefix).await?, prefix: prefix.to_owned(), scripts: Scripts::new() };
        let format: Option<String> = store.command(redis::cmd("GET").arg(store.key("format"))).await?;
        if format.is_some_and(|format| format.parse() != Ok(FORMAT)) {
            // Says what is wrong with it, and since there is one, writes none.
            store.check_format().await?;
        }
        let raw = store.raw().await?;
        let containers = raw.get(&store.key("containers")).map_or(0, |fields| fields.len() / 2);
        let mut seen = Seen { containers, unreadable: store.faults(&raw), ..Seen::default() };
        // Not every user may ask.
        if let Ok(info) = store.command::<String>(&redis::cmd("INFO")).await {
            let value = |name: &str| {
                info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
            };
            seen.version = value("redis_version");
            seen.keeps_every_write = value("aof_enabled").map(|v| v == "1");
            seen.eviction = value("maxmemory_policy");
        }
        let save = redis::cmd("CONFIG").arg("GET").arg("save").take();
        if let Ok(save) = store.command::<BTreeMap<String, String>>(&save).await {
            seen.keeps_snapshots = save.get("save").map(|points| !points.is_empty());
        }
        Ok(seen)
    }

    /// How many servers besides this one are at work on what lies under the prefix; `None` where that cannot be told.
    pub async fn others(&self) -> Option<usize> {
        let own: u64 = self.command(redis::cmd("CLIENT").arg("ID")).await.ok()?;
        let list: String = self.command(redis::cmd("CLIENT").arg("LIST")).await.ok()?;
        let (own, name) = (format!("id={own}"), format!("name={}", Link::name(&self.prefix)));
        let others = list.lines().filter(|line| {
            let mut words = line.split(' ');
            words.clone().any(|word| word == name) && words.all(|word| word != own)
        });
        Some(others.count())
    }

    /// All keys under the prefix, but for the format.
    async fn keys(&self) -> Result<BTreeSet<String>> {
        let own = self.key("");
        let pattern: String =
            own.chars().flat_map(|c| ['\\', c].into_iter().skip(usize::from(!"*?[]\\^".contains(c)))).collect();
        let (mut keys, mut cursor) = (BTreeSet::new(), 0_u64);
        loop {
            let scan =
                redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{pattern}*")).arg("COUNT").arg(SCANNED).take();
            let (next, found): (u64, Vec<String>) = self.command(&scan).await?;
            keys.extend(found.into_iter().filter(|key| key.starts_with(&own)));
            cursor = next;
            if cursor == 0 {
                keys.remove(&self.key("format"));
                return Ok(keys);
            }
        }
    }

    /// All that lies under the prefix.
    async fn raw(&self) -> Result<Raw> {
        let attempts = self.key("attempt:");
        let lasting = |key: &&String| !key.starts_with(&attempts);
        let mut keys = self.keys().await?;
        loop {
            let mut export = self.scripts.export.prepare_invoke();
            for key in &keys {
                export.key(key);
            }
            let values: Vec<Vec<Vec<u8>>> = self.link.ask(Request::Script(&export), Repeat::Harmless).await?;
            // A hash that came up since the keys were looked for belongs to the same moment as what is in the others.
            let after = self.keys().await?;
            if keys.iter().filter(lasting).eq(after.iter().filter(lasting)) {
                return Ok(keys.into_iter().zip(values).collect());
            }
            keys = after;
        }
    }

    /// The records that cannot be read.
    fn faults(&self, raw: &Raw) -> Vec<Unreadable> {
        let fields = |name: &str| raw.get(&self.key(name)).map(Vec::as_slice).unwrap_or_default().chunks_exact(2);
        let containers = fields("containers");
        let mut found: Vec<_> = containers.filter_map(|row| Table::Containers.fault(&text(&row[0]), &row[1])).collect();
        for row in fields("activity") {
            let key = text(&row[0]);
            if ContainerId::parse(&key).is_err() || moment::read(&text(&row[1])).is_none() {
                let error = record::damaged("activity of", &key);
                found.push(Table::Activity.unreadable(&key, &row[1], &error));
            }
        }
        let attempts = self.key("attempt:");
        for (key, value) in raw {
            if let (Some(key), Some(bytes)) = (key.strip_prefix(&attempts), value.first()) {
                found.extend(Table::Attempts.fault(key, bytes));
            }
        }
        found
    }
}

/// Text, for keys that only a stranger would fill with anything else.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[async_trait]
impl BackupStore for Redis {
    async fn export(&self) -> Result<Contents> {
        let mut contents = Contents::default();
        let (claims, attempts) = (self.key("claims:"), self.key("attempt:"));
        for (key, values) in self.raw().await? {
            if key == self.key("containers") {
                for row in values.chunks_exact(2) {
                    contents.containers.push(record::read(&text(&row[0]), &row[1])?);
                }
            } else if key == self.key("activity") {
                for row in values.chunks_exact(2) {
                    let id = text(&row[0]);
                    let read = ContainerId::parse(&id).ok().zip(moment::read(&text(&row[1])));
                    contents.activities.push(read.ok_or_else(|| record::damaged("activity of", &id))?);
                }
            } else if let Some(host) = key.strip_prefix(&claims) {
                for row in values.chunks_exact(2) {
                    let claim = text(&row[0]);
                    let holder = record::read_holder(&claim, &text(&row[1]))?;
                    contents.claims.push((HostName::new(host), record::read_claim(&claim)?, holder));
                }
            } else if let (Some(key), Some(bytes)) = (key.strip_prefix(&attempts), values.first()) {
                let attempt = record::read(key, bytes)?;
                let key = AttemptKey::parse(key).map_err(|_| record::damaged("attempt", key))?;
                contents.attempts.push((key, attempt));
            }
        }
        Ok(contents)
    }

    async fn import(&self, contents: &Contents, replace: bool) -> Result<()> {
        if contents.len() * 3 + 2 > ARGUMENTS {
            return Err(Error::new(Kind::Exhausted, "the backup holds more than Redis takes in one step"));
        }
        let (containers, activity) = (self.key("containers"), self.key("activity"));
        // What must not be there has to be named, whether it was found or not.
        let mut there = self.keys().await?;
        there.extend([containers.clone(), activity.clone()]);
        there.extend(contents.claims.iter().map(|(host, ..)| self.claims_key(host)));
        let mut import = self.scripts.import.prepare_invoke();
        for key in &there {
            import.key(key);
        }
        import.arg(u8::from(replace)).arg(contents.attempts.len());
        for (key, attempt) in &contents.attempts {
            import.arg(self.attempt_key(key)).arg(record::write(attempt)?).arg(ATTEMPT_SECONDS);
        }
        for container in &contents.containers {
            import.arg(&containers).arg(container.id.as_str()).arg(record::write(container)?);
        }
        for (id, used) in &contents.activities {
            import.arg(&activity).arg(id.as_str()).arg(moment::write(used).join(" "));
        }
        for (host, claim, holder) in &contents.claims {
            import.arg(self.claims_key(host)).arg(record::claim_key(claim)).arg(holder.as_str());
        }
        match self.run(&import, Repeat::Never).await? {
            None => Ok(()),
            Some(_) => Err(not_empty()),
        }
    }

    async fn unreadable(&self) -> Result<Vec<Unreadable>> {
        Ok(self.faults(&self.raw().await?))
    }

    async fn take_out(&self, record: &Unreadable) -> Result<bool> {
        let (key, field) = match record.of {
            Table::Containers => (self.key("containers"), Some(&record.key)),
            Table::Activity => (self.key("activity"), Some(&record.key)),
            Table::Attempts => (self.key(&format!("attempt:{}", record.key)), None),
        };
        let mut take_out = self.scripts.take_out.key(key);
        take_out.arg(&record.bytes[..]);
        if let Some(field) = field {
            take_out.arg(field);
        }
        Ok(self.run(&take_out, Repeat::Never).await?.is_none())
    }
}
