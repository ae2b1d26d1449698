//! Values as they are written in the configuration, checked as they are read, so that the error names file and key.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::{
    self, Error, Heeds, Result, Source, Timetable, format_duration, parse_cpus, parse_duration, parse_memory,
};

/// A value that is written as text, or as a number where that reads well.
trait Written: Sized {
    fn read(text: &str) -> Result<Self>;
    fn write(&self) -> String;
}

/// Text or a number.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> std::result::Result<Text, E> {
                Ok(Text(v.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> std::result::Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> std::result::Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> std::result::Result<Text, E> {
                Ok(Text(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

macro_rules! written {
    ($type:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let Text(text) = Text::deserialize(deserializer)?;
                Self::read(&text).map_err(|e| de::Error::custom(e.message()))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.write())
            }
        }
    };
}

/// A span of time: `90m`, or seconds. At least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub(super) Duration);

impl Written for Span {
    fn read(text: &str) -> Result<Self> {
        match parse_duration(text)? {
            Duration::ZERO => Err(Error::invalid("give at least 1 second")),
            span => Ok(Self(span)),
        }
    }
    fn write(&self) -> String {
        format_duration(self.0)
    }
}
written!(Span);

impl Span {
    /// The span.
    pub fn span(self) -> Duration {
        self.0
    }
}

/// The interval of the sweep, which cron must be able to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub(super) Duration);

impl Written for Interval {
    fn read(text: &str) -> Result<Self> {
        let span = parse_duration(text)?;
        crate::reconcile::idle::cron_expression(span).map(|_| Self(span))
    }
    fn write(&self) -> String {
        format_duration(self.0)
    }
}
written!(Interval);

impl Interval {
    /// The span.
    pub fn span(self) -> Duration {
        self.0
    }
}

/// An idle timeout: a span or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub(super) model::Timeout);

impl Written for Timeout {
    fn read(text: &str) -> Result<Self> {
        model::Timeout::parse(text).map(Self)
    }
    fn write(&self) -> String {
        self.0.span().map_or_else(|| "never".to_owned(), format_duration)
    }
}
written!(Timeout);

impl Timeout {
    /// The timeout.
    pub fn timeout(self) -> model::Timeout {
        self.0
    }
}

/// Times during which nothing sleeps, a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timetables(Vec<Timetable>);

impl<'de> Deserialize<'de> for Timetables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let texts: Vec<String> = Deserialize::deserialize(deserializer)?;
        Timetable::parse_all(&texts.join(";")).map(Self).map_err(|e| de::Error::custom(e.message()))
    }
}

impl Serialize for Timetables {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl Timetables {
    /// They.
    pub fn list(&self) -> &[Timetable] {
        &self.0
    }
}

/// From when on a source counts, for each source as it is written there.
macro_rules! heeded {
    ($($type:ident),*) => {$(
        /// From when on this source counts as use.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $type(String);

        impl Written for $type {
            fn read(text: &str) -> Result<Self> {
                let mut heeds = Heeds::default();
                heeds.set(Source::$type.as_str(), text)?;
                Ok(Self::of(&heeds))
            }
            fn write(&self) -> String {
                self.0.clone()
            }
        }
        written!($type);

        impl Default for $type {
            fn default() -> Self {
                Self::of(&Heeds::default())
            }
        }

        impl $type {
            fn of(heeds: &Heeds) -> Self {
                Self(heeds.effective().remove(Source::$type.as_str()).unwrap_or_default())
            }

            /// Adds it to what is heeded.
            ///
            /// # Errors
            /// None: it was checked as it was read.
            pub fn add_to(&self, heeds: &mut Heeds) -> Result<()> {
                heeds.set(Source::$type.as_str(), &self.0)
            }
        }
    )*};
}
heeded!(Traffic, Terminal, Processor, Disk, Connections);

/// What is to stay free: an amount as of memory, or 0 for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve(pub(super) u64);

impl Written for Reserve {
    fn read(text: &str) -> Result<Self> {
        if text.trim() == "0" { Ok(Self(0)) } else { Memory::read(text).map(|amount| Self(amount.0)) }
    }
    fn write(&self) -> String {
        if self.0 == 0 { "0".to_owned() } else { Memory(self.0).write() }
    }
}
written!(Reserve);

impl Reserve {
    /// The bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// An amount of memory: `512m`, or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub(super) u64);

impl Written for Memory {
    fn read(text: &str) -> Result<Self> {
        parse_memory(text).map(Self)
    }
    fn write(&self) -> String {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => format!("{}m", bytes >> 20),
            bytes => bytes.to_string(),
        }
    }
}
written!(Memory);

impl Memory {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A number of processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpus(pub(super) f64);

impl Written for Cpus {
    fn read(text: &str) -> Result<Self> {
        parse_cpus(text).map(Self)
    }
    fn write(&self) -> String {
        self.0.to_string()
    }
}
written!(Cpus);

impl Cpus {
    /// How many.
    pub fn count(self) -> f64 {
        self.0
    }
}

/// The name of this Spindown: a label's value and a network's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(String);

impl Default for Instance {
    fn default() -> Self {
        Self("spindown".to_owned())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Written for Instance {
    fn read(text: &str) -> Result<Self> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let fits = (2..=32).contains(&text.len());
        if starts && fits && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?}: use 2 to 32 lower-case letters, digits and '_', a letter first")))
        }
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}
written!(Instance);

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(pub(super) String);

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Written for Interface {
    fn read(text: &str) -> Result<Self> {
        // 15 bytes is the kernel's limit (IFNAMSIZ less its end).
        if (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?}: an interface's name has 1 to 15 letters, digits, '-' and '_'")))
        }
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}
written!(Interface);

/// A folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Default for Folder {
    fn default() -> Self {
        Self(PathBuf::from("data"))
    }
}

impl Written for Folder {
    fn read(text: &str) -> Result<Self> {
        if text.is_empty() { Err(Error::invalid("name a folder")) } else { Ok(Self(PathBuf::from(text))) }
    }
    fn write(&self) -> String {
        self.0.display().to_string()
    }
}
written!(Folder);

impl Folder {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl(String);

impl Default for EngineUrl {
    fn default() -> Self {
        Self("unix:///var/run/docker.sock".to_owned())
    }
}

impl Written for EngineUrl {
    fn read(text: &str) -> Result<Self> {
        if ["unix://", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?}: an engine is at unix:///path, tcp://host:port or http://host:port")))
        }
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}
written!(EngineUrl);

impl EngineUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
