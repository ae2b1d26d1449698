//! The rules in the kernel, by the command `nft`: applied in one transaction, looked at, taken away. What they say is
//! `rules`'; when to look is the reconciler's.

use std::{collections::BTreeSet, io::ErrorKind, net::Ipv4Addr, path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Firewall, nflog, obstacle,
    rules::{self, Able, Rules, Sets},
};
use crate::model::{Error, Knock, Result};

/// How long one call of `nft` may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where administrators' commands are, which the search path of a service need not name.
const FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// What comes of a log that is missing.
const MUTE: &str = "nobody tells what comes for a frozen container";
/// Where packets cannot be logged, every so many times that somebody wants to hear of them it is tried again: the kernel's
/// module may have been installed. Whoever wants to hear asks once a second.
const TRIED_AGAIN: u32 = 30;

/// The kernel's firewall, as far as it is ours.
#[derive(Debug)]
pub struct Nft {
    rules: Rules,
    program: PathBuf,
    // Held over a whole call: two at once would take each other's changes for a stranger's.
    known: Mutex<Known>,
}

/// What is known from the last time the rules were applied.
#[derive(Debug)]
struct Known {
    /// What is possible here, as far as it has been tried.
    able: Able,
    /// How often it was asked for a log in vain.
    deaf: u32,
    /// Cancelled when the log is given up: what is open of it would stay open, and silent.
    logged: CancellationToken,
    /// What was applied, and how the kernel showed it right after: `nft` writes things in its own way, so only its own
    /// listings can be compared.
    applied: Option<(String, String)>,
    /// What the sets are to hold.
    sets: Sets,
    /// Whether the kernel may not have been told of it.
    unsure: bool,
}

/// Why a call of `nft` came to nothing.
enum Failure {
    /// It ran and said no, in these words.
    Refused(String),
    /// It could not do its work at all.
    Broken(Error),
}

impl Nft {
    /// The firewall of these rules. Nothing is applied yet. `Invalid` if they cannot be written down.
    pub fn new(rules: Rules) -> Result<Self> {
        rules.check()?;
        let known = Known {
            able: Able::ALL,
            deaf: 0,
            logged: CancellationToken::new(),
            applied: None,
            sets: Sets::default(),
            unsure: false,
        };
        Ok(Self { rules, program: PathBuf::from("nft"), known: Mutex::new(known) })
    }

    /// Calls this program instead of the `nft` that is found.
    #[must_use]
    pub fn with_program(self, program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..self }
    }

    /// Whether tables of the right names are there. Changes nothing.
    ///
    /// # Errors
    /// `Unavailable` if that cannot be found out, with what is missing for it.
    pub async fn is_there(&self) -> Result<bool> {
        match self.listing().await {
            Ok(_) => Ok(true),
            Err(Failure::Refused(_)) => Ok(false),
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    /// Replaces whatever is there, and notes how that looks.
    async fn apply(&self, known: &mut Known, uplinks: &[String]) -> Result<()> {
        known.applied = None;
        for able in known.able.and_less() {
            let outcome = self.call(&self.rules.text(uplinks, able, &known.sets)).await;
            let refused = matches!(outcome, Err(Failure::Refused(_)));
            if refused && able != Able::LEAST {
                continue;
            }
            outcome.map_err(Failure::into_error)?;
            if able.frames != known.able.frames {
                tracing::info!("the kernel cannot tell bridges by name: frames between containers are told by address");
            }
            if able.log != known.able.log {
                tracing::warn!("the kernel or nft cannot log packets: {MUTE}");
                std::mem::take(&mut known.logged).cancel();
            }
            known.able = able;
            break;
        }
        self.note(known, uplinks).await
    }

    /// Applies the rules with the log, if that is possible by now; else nothing is changed.
    async fn log_again(&self, known: &mut Known) -> Result<()> {
        let (able, uplinks) = (Able { log: true, ..known.able }, uplinks());
        match self.call(&self.rules.text(&uplinks, able, &known.sets)).await {
            Ok(_) => {}
            Err(Failure::Refused(_)) => return Ok(()),
            Err(Failure::Broken(error)) => return Err(error),
        }
        tracing::info!("packets are logged: what comes for a frozen container is told from now on");
        known.able = able;
        known.applied = None;
        self.note(known, &uplinks).await
    }

    /// Notes how the rules look that were just applied.
    async fn note(&self, known: &mut Known, uplinks: &[String]) -> Result<()> {
        let text = self.rules.text(uplinks, known.able, &Sets::default());
        let listing = self.listing().await.map_err(Failure::into_error)?;
        // Somebody may have been there between the two calls: what he left must not be taken for ours.
        if rules::size(&listing) != rules::size(&text) {
            return Err(Error::unavailable("the firewall rules were changed while they were applied"));
        }
        known.applied = Some((text, listing));
        known.unsure = false;
        Ok(())
    }

    /// Both tables as they are now.
    async fn listing(&self) -> Result<String, Failure> {
        let [inet, bridge] = self.rules.questions();
        let (inet, bridge) = tokio::try_join!(self.call(&inet), self.call(&bridge))?;
        Ok(inet + &bridge)
    }

    /// What the sets hold now; nothing without a door.
    async fn sets(&self) -> Result<Sets, Failure> {
        if self.rules.door.is_none() {
            return Ok(Sets::default());
        }
        let [asleep, frozen] = self.rules.questions_of_sets();
        let (asleep, frozen) = tokio::try_join!(self.run(&["--numeric"], &asleep), self.run(&["--numeric"], &frozen))?;
        Ok(Sets { asleep: rules::elements(&asleep), frozen: rules::elements(&frozen) })
    }

    /// Has the sets hold something else from here on.
    async fn keep(&self, change: impl FnOnce(&mut Sets) + Send) -> Result<()> {
        let mut known = self.known.lock().await;
        let mut sets = known.sets.clone();
        change(&mut sets);
        let change = self.rules.change(&known.sets, &sets);
        if self.rules.door.is_none() || change.is_empty() && !known.unsure {
            return Ok(());
        }
        // Whatever becomes of this call: that is what holds from here on, and `ensure` sees to it.
        known.sets = sets;
        if std::mem::replace(&mut known.unsure, true) {
            return self.apply(&mut known, &uplinks()).await;
        }
        match self.call(&change).await {
            Ok(_) => {
                known.unsure = false;
                Ok(())
            }
            // Somebody has been at the set, or at the table.
            Err(Failure::Refused(_)) => self.apply(&mut known, &uplinks()).await,
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    /// Runs a script. Numbers for names, no counts, no elements: what is listed changes only when somebody changes the
    /// rules.
    async fn call(&self, script: &str) -> Result<String, Failure> {
        self.run(&["--numeric", "--stateless", "--terse"], script).await
    }

    /// Runs `nft` on a script and answers what it wrote.
    async fn run(&self, options: &[&str], script: &str) -> Result<String, Failure> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(&self.program)
            .args(options)
            .args(["--file", "-"])
            .env("PATH", format!("{path}:{FOLDERS}"))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| {
                let message = match source.kind() {
                    ErrorKind::NotFound => "the firewall needs the command nft: install the package nftables",
                    _ => "the command nft cannot be started",
                };
                Failure::Broken(Error::unavailable(message).caused_by(source))
            })?;
        let work = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A child that ends without reading says why in its own words.
                let _ = stdin.write_all(script.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = match timeout(DEADLINE, work).await {
            Ok(Ok(output)) => output,
            Ok(Err(source)) => {
                return Err(Failure::Broken(Error::unavailable("the command nft failed").caused_by(source)));
            }
            Err(source) => {
                let message = format!("the command nft did not end within {} s", DEADLINE.as_secs());
                return Err(Failure::Broken(Error::unavailable(message).caused_by(source)));
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("Operation not permitted") || words.contains("Permission denied") {
            let message = "the firewall needs the capability NET_ADMIN: run Spindown as root or grant it";
            return Err(Failure::Broken(Error::unavailable(message).caused_by(words)));
        }
        Err(Failure::Refused(words))
    }
}

#[async_trait]
impl Firewall for Nft {
    async fn ensure(&self) -> Result<bool> {
        let mut known = self.known.lock().await;
        let uplinks = uplinks();
        if let Some((text, listing)) = &known.applied
            && *text == self.rules.text(&uplinks, known.able, &Sets::default())
        {
            match tokio::try_join!(self.listing(), self.sets()) {
                Ok((rules, sets)) if rules == *listing && sets == known.sets => return Ok(false),
                // A table that is gone cannot be listed.
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(Failure::Broken(error)) => return Err(error),
            }
        }
        self.apply(&mut known, &uplinks).await?;
        Ok(true)
    }

    async fn divert(&self, ports: &BTreeSet<u16>) -> Result<()> {
        self.keep(|sets| sets.asleep.clone_from(ports)).await
    }

    async fn obstacle(&self) -> Result<Option<String>> {
        let Some(door) = self.rules.door else { return Ok(None) };
        let chains = self.call("list chains\n").await.map_err(Failure::into_error)?;
        for place in obstacle::closed(&chains, &self.rules.table) {
            // One that is gone meanwhile is in nobody's way.
            let rules = self.call(&format!("list table {place}\n")).await.unwrap_or_default();
            if !rules.is_empty() && !obstacle::names(&rules, door.port) {
                return Ok(Some(obstacle::advice(&place, door.port)));
            }
        }
        Ok(None)
    }

    async fn watch(&self, frozen: &BTreeSet<Ipv4Addr>) -> Result<()> {
        self.keep(|sets| sets.frozen.clone_from(frozen)).await
    }

    async fn knocks(&self) -> Result<BoxStream<'static, Knock>> {
        let Some(door) = self.rules.door else {
            return Err(Error::unavailable(format!("there is no door: {MUTE}")));
        };
        let logged = {
            let mut known = self.known.lock().await;
            if !known.able.log {
                known.deaf = known.deaf.wrapping_add(1);
                if known.deaf.is_multiple_of(TRIED_AGAIN) {
                    self.log_again(&mut known).await?;
                }
            }
            if !known.able.log {
                let message = format!(
                    "the kernel or nft cannot log packets to a group, which needs nfnetlink_log (modprobe \
                     nfnetlink_log; it is tried again every half minute): {MUTE}"
                );
                return Err(Error::unavailable(message));
            }
            known.logged.clone()
        };
        Ok(nflog::listen(door.port).await?.take_until(logged.cancelled_owned()).boxed())
    }

    async fn remove(&self) -> Result<()> {
        let mut known = self.known.lock().await;
        known.applied = None;
        self.call(&self.rules.removal()).await.map_err(Failure::into_error)?;
        Ok(())
    }
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Refused(words) => Error::unavailable("the kernel refused the firewall rules").caused_by(words),
            Self::Broken(error) => error,
        }
    }
}

/// The bridges that carry a default route. A host whose own network card is part of a bridge reaches the world by it.
fn uplinks() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut names = rules::default_routes(&table);
    names.retain(|name| std::path::Path::new("/sys/class/net").join(name).join("bridge").exists());
    names
}
