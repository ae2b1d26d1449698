//! What a caller may ask of containers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    http::fields::{Fields, about},
    model::{
        DEFAULT, Error, Heeds, LogRange, MountPoint, Name, Result, Rungs, Status, Timeout, VolumeName, Volumes, Wake,
        parse_cpus, parse_duration, parse_memory,
    },
    service::{
        Spindown,
        container::{Action, AuthorizedKeys, Change, Filter, NewContainer, Report},
    },
};

/// Bounds of what one container may be given.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 256;
const MOST_VARIABLES: usize = 200;
const LONGEST_VARIABLE: usize = 32 << 10;
const MOST_WORDS: usize = 256;
/// The longest page of a list.
const LONGEST_PAGE: usize = 1_000;

const MOST_VOLUMES: usize = 8;
/// The most lines of output that are asked for by number, and how many it is unless something is said.
const MOST_LINES: u32 = 100_000;
const LINES: u32 = 100;

pub(super) const CREATE: [&str; 17] = [
    "image",
    "name",
    "command",
    "env",
    "labels",
    "authorized_keys",
    "idle_timeout",
    "freeze_after",
    "delete_after",
    "max_age",
    "warn_before",
    "keep_awake",
    "evidence",
    "wake",
    "memory",
    "cpus",
    "volumes",
];
pub(super) const PATCH: [&str; 12] = [
    "status",
    "name",
    "idle_timeout",
    "freeze_after",
    "delete_after",
    "max_age",
    "warn_before",
    "keep_awake",
    "evidence",
    "wake",
    "labels",
    "authorized_keys",
];
pub(super) const EXTEND: [&str; 1] = ["by"];
pub(super) const BULK: [&str; 2] = ["action", "label"];
pub(super) const REMOVE: [&str; 1] = ["volumes"];
pub(super) const LOGS: [&str; 3] = ["tail", "follow", "timestamps"];
pub(super) const LIST: [&str; 6] = ["status", "image", "label", "audit", "limit", "after"];

/// Reads what a new container is to be.
pub(super) fn new_container(mut fields: Fields) -> Result<NewContainer> {
    let wanted = NewContainer {
        image: image(fields.text("image")?)?,
        name: name(&mut fields)?,
        command: command(&mut fields)?,
        env: env(&mut fields)?,
        labels: labels(&mut fields)?.unwrap_or_default(),
        authorized_keys: authorized_keys(&mut fields)?,
        idle_timeout: idle_timeout(&mut fields)?,
        rungs: rungs(&mut fields)?.0,
        wake: wake(&mut fields)?.unwrap_or_default(),
        memory: fields.scalar("memory")?.map(|t| about("memory", parse_memory(&t))).transpose()?,
        cpus: fields.scalar("cpus")?.map(|t| about("cpus", parse_cpus(&t))).transpose()?,
        volumes: volumes(&mut fields)?,
    };
    fields.finish(&CREATE)?;
    Ok(wanted)
}

/// What may be set as a container's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Running,
    Frozen,
    Stopped,
}

/// What is to become of a container.
pub(super) struct Patch {
    change: Change,
    status: Option<Wanted>,
}

impl Patch {
    pub(super) fn read(mut fields: Fields) -> Result<Self> {
        let status = match fields.text("status")?.as_deref() {
            None => None,
            Some("running") => Some(Wanted::Running),
            Some("frozen") => Some(Wanted::Frozen),
            Some("stopped") => Some(Wanted::Stopped),
            Some(other) => {
                return Err(Error::invalid(format!(
                    "status: can be set to running, frozen or stopped, not to {:?}",
                    clip(other)
                )));
            }
        };
        let (rungs, rungs_to_set) = rungs(&mut fields)?;
        let change = Change {
            name: name(&mut fields)?,
            idle_timeout: idle_timeout(&mut fields)?,
            rungs,
            rungs_to_set,
            wake: wake(&mut fields)?,
            labels: labels(&mut fields)?,
            authorized_keys: authorized_keys(&mut fields)?,
        };
        fields.finish(&PATCH)?;
        if status.is_none() && change.is_empty() {
            return Err(Error::invalid(format!("nothing to change: give one of {}", PATCH.join(", "))));
        }
        Ok(Self { change, status })
    }

    /// The lasting changes first: they can be refused, and then nothing has happened to what runs.
    pub(super) async fn apply(self, spindown: &Arc<Spindown>, name: &str) -> Result<Report> {
        // Its name may be what changes.
        let id = spindown.find_container(name)?.container.id;
        let mut report = None;
        if !self.change.is_empty() {
            report = Some(spindown.update_container(id.as_str(), self.change).await?);
        }
        match (self.status, report) {
            (Some(Wanted::Running), _) => spindown.start_container(id.as_str()).await,
            (Some(Wanted::Frozen), _) => spindown.freeze_container(id.as_str()).await,
            (Some(Wanted::Stopped), _) => spindown.stop_container(id.as_str()).await,
            (None, Some(report)) => Ok(report),
            (None, None) => spindown.find_container(id.as_str()),
        }
    }
}

/// For how much longer a container is to be kept up.
pub(super) fn extension(mut fields: Fields) -> Result<Duration> {
    let text = fields.scalar("by")?;
    fields.finish(&EXTEND)?;
    let text = text.ok_or_else(|| Error::invalid("by: is needed: seconds or a duration, 1h"))?;
    match about("by", parse_duration(&text))? {
        Duration::ZERO => Err(Error::invalid("by: must be at least 1 second")),
        by => Ok(by),
    }
}

/// What a list is to show.
pub(super) struct Listing {
    pub filter: Filter,
    pub audit: bool,
}

impl Listing {
    pub(super) fn read(mut fields: Fields) -> Result<Self> {
        let status = fields.text("status")?.map(|text| {
            let words = Status::ALL.map(Status::as_str);
            let found = Status::ALL.into_iter().find(|s| s.as_str() == text);
            found.ok_or_else(|| Error::invalid(format!("status: {:?} is none of {}", clip(&text), words.join(", "))))
        });
        let limit = fields.scalar("limit")?.map(|text| match text.parse() {
            Ok(limit) if (1..=LONGEST_PAGE).contains(&limit) => Ok(limit),
            _ => {
                Err(Error::invalid(format!("limit: must be a number from 1 to {LONGEST_PAGE}, not {:?}", clip(&text))))
            }
        });
        let filter = Filter {
            status: status.transpose()?,
            image: fields.text("image")?,
            labels: wanted_labels(&mut fields)?,
            after: fields.text("after")?,
            limit: limit.transpose()?,
        };
        let audit = fields.flag("audit")?.unwrap_or(false);
        fields.finish(&LIST)?;
        Ok(Self { filter, audit })
    }
}

/// Which part of a container's output is to be read.
pub(super) fn log_range(mut fields: Fields) -> Result<LogRange> {
    let tail = match fields.scalar("tail")?.as_deref() {
        None => Some(LINES),
        Some("all") => None,
        Some(text) => match text.parse() {
            Ok(lines) if lines <= MOST_LINES => Some(lines),
            _ => {
                let message = format!("tail: must be a number from 0 to {MOST_LINES}, or all, not {:?}", clip(text));
                return Err(Error::invalid(message));
            }
        },
    };
    let follow = fields.flag("follow")?.unwrap_or(false);
    let timestamps = fields.flag("timestamps")?.unwrap_or(false);
    fields.finish(&LOGS)?;
    Ok(LogRange { tail, follow, timestamps })
}

/// What is to be done to all containers with certain labels.
pub(super) struct Bulk {
    pub action: Action,
    pub labels: Vec<(String, Option<String>)>,
}

impl Bulk {
    pub(super) fn read(mut fields: Fields) -> Result<Self> {
        let action = match fields.text("action")?.as_deref() {
            Some("start") => Action::Start,
            Some("stop") => Action::Stop,
            Some("delete") => Action::Remove,
            Some(other) => {
                return Err(Error::invalid(format!("action: must be start, stop or delete, not {:?}", clip(other))));
            }
            None => return Err(Error::invalid("action: is needed: start, stop or delete")),
        };
        let labels = wanted_labels(&mut fields)?;
        fields.finish(&BULK)?;
        if labels.is_empty() || labels.iter().any(|(key, _)| key.is_empty()) {
            return Err(Error::invalid("label: at least one is needed, as name or name=value: what has it is meant"));
        }
        Ok(Self { action, labels })
    }
}

/// The labels that a container must have to be meant; without a value, any will do.
fn wanted_labels(fields: &mut Fields) -> Result<Vec<(String, Option<String>)>> {
    let label = |text: String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text, None),
    };
    Ok(fields.texts("label")?.unwrap_or_default().into_iter().map(label).collect())
}

fn image(text: Option<String>) -> Result<String> {
    let text = text.ok_or_else(|| Error::invalid("image: is needed; GET /v1/images lists what there is"))?;
    // What an image's name can be: the engine's grammar, loosely. It keeps odd things from being sent to the engine.
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(good) || !text.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(Error::invalid(format!("image: {:?} cannot be an image's name", clip(&text))));
    }
    Ok(text)
}

fn name(fields: &mut Fields) -> Result<Option<Name>> {
    fields.text("name")?.map(|text| about("name", Name::parse(&text))).transpose()
}

/// A list of words is taken as it is; one text is for the shell.
fn command(fields: &mut Fields) -> Result<Option<Vec<String>>> {
    let listed = fields.is_list("command");
    let Some(mut words) = fields.texts("command")? else { return Ok(None) };
    if words.is_empty() || words[0].is_empty() || words.len() > MOST_WORDS || words.iter().any(|w| w.contains('\0')) {
        return Err(Error::invalid(format!("command: give a command of 1 to {MOST_WORDS} words")));
    }
    if !listed {
        words.splice(0..0, ["/bin/sh".to_owned(), "-c".to_owned()]);
    }
    Ok(Some(words))
}

fn env(fields: &mut Fields) -> Result<BTreeMap<String, String>> {
    let env = fields.pairs("env")?.unwrap_or_default();
    if env.len() > MOST_VARIABLES {
        return Err(Error::invalid(format!("env: at most {MOST_VARIABLES} variables")));
    }
    for (key, value) in &env {
        let first = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || key.len() > 128 || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::invalid(format!(
                "env: {:?} cannot be a variable's name: use letters, digits and '_'",
                clip(key)
            )));
        }
        if value.contains('\0') || value.len() > LONGEST_VARIABLE {
            return Err(Error::invalid(format!("env: the value of {key:?} is too long or holds a zero byte")));
        }
    }
    Ok(env)
}

fn volumes(fields: &mut Fields) -> Result<Volumes> {
    let given = fields.pairs("volumes")?.unwrap_or_default();
    if given.len() > MOST_VOLUMES {
        return Err(Error::invalid(format!("volumes: at most {MOST_VOLUMES}")));
    }
    let volume = |(at, name): (String, String)| Ok((MountPoint::parse(&at)?, VolumeName::parse(&name)?));
    about("volumes", given.into_iter().map(volume).collect())
}

/// Whether a container's volumes are to be removed with it.
pub(super) fn with_volumes(mut fields: Fields) -> Result<bool> {
    let volumes = fields.flag("volumes")?.unwrap_or(false);
    fields.finish(&REMOVE)?;
    Ok(volumes)
}

fn labels(fields: &mut Fields) -> Result<Option<BTreeMap<String, String>>> {
    let Some(labels) = fields.pairs("labels")? else { return Ok(None) };
    if labels.len() > MOST_LABELS {
        return Err(Error::invalid(format!("labels: at most {MOST_LABELS}")));
    }
    for (key, value) in &labels {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if key.is_empty() || key.len() > LONGEST_LABEL || !key.bytes().all(good) {
            let message =
                format!("labels: {:?} cannot be a label's name: use letters, digits, '.', '_', '-' and '/'", clip(key));
            return Err(Error::invalid(message));
        }
        if value.len() > LONGEST_LABEL || value.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "labels: the value of {key:?} is longer than {LONGEST_LABEL} bytes or not plain text"
            )));
        }
    }
    Ok(Some(labels))
}

fn authorized_keys(fields: &mut Fields) -> Result<Option<AuthorizedKeys>> {
    let texts = fields.texts("authorized_keys")?;
    texts.map(|texts| AuthorizedKeys::parse(&texts.join("\n"))).transpose()
}

fn idle_timeout(fields: &mut Fields) -> Result<Option<Timeout>> {
    let text = span(fields, "idle_timeout")?;
    text.map(|text| about("idle_timeout", Timeout::parse(&text))).transpose()
}

/// A span as text. JSON's null is the word for `never`, as in the answers.
fn span(fields: &mut Fields, name: &str) -> Result<Option<String>> {
    let given = fields.has(name);
    let text = fields.scalar(name)?;
    Ok(text.or_else(|| given.then(|| Timeout::Never.to_string())))
}

/// What is said of the rest of the ladder, and of which rungs something is said.
fn rungs(fields: &mut Fields) -> Result<(Rungs, Vec<&'static str>)> {
    let (mut rungs, mut said) = (Rungs::default(), Vec::new());
    for name in Rungs::NAMES {
        let text = match name {
            "keep_awake" => fields.texts(name)?.map(|texts| texts.join(";")),
            "evidence" => evidence(fields)?,
            _ => span(fields, name)?,
        };
        if let Some(text) = text {
            about(name, rungs.set(name, &text))?;
            said.push(name);
        }
    }
    Ok((rungs, said))
}

/// Each pair is read by itself, so that none hides in the value of another.
fn evidence(fields: &mut Fields) -> Result<Option<String>> {
    if fields.is("evidence", DEFAULT) {
        return fields.text("evidence");
    }
    let Some(pairs) = fields.pairs("evidence")? else { return Ok(None) };
    let mut heeds = Heeds::default();
    for (source, text) in pairs {
        about("evidence", heeds.set(&source, &text))?;
    }
    Ok(Some(heeds.to_string()))
}

fn wake(fields: &mut Fields) -> Result<Option<Wake>> {
    fields.text("wake")?.map(|text| about("wake", Wake::parse(&clip(&text)))).transpose()
}

/// As much of a caller's text as an answer repeats.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
