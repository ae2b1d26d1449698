//! The nouns and their transitions: no I/O, no clock, no async, no logging.
//! Everything else imports this module; it imports nothing of ours.

mod activity;
mod amount;
pub mod birth;
mod blueprint;
mod claim;
mod container;
mod disk;
mod duration;
mod error;
mod event;
mod id;
mod image;
mod log;
mod moment;
mod name;
mod observation;
mod port;
mod pull;
mod reference;
mod sight;
mod volume;
mod wake;

pub use activity::{Activity, CheckIn};
pub use amount::{format_bytes, parse_cpus, parse_memory};
pub use blueprint::{Blueprint, File, Limits};
pub use claim::Claim;
pub use container::{Container, Removal, Status, Stop, StopOrder, StoppedBy, status};
pub use disk::{DiskSpace, DiskUse};
pub use duration::{IdleTimeout, format_duration, parse_duration};
pub use error::{Error, Kind, Result};
pub use event::{Event, Shown, What, changes};
pub use id::{ContainerId, EngineId, HostName, Reference};
pub use image::Image;
pub use log::LogRange;
pub use moment::{Moment, Stamp};
pub use name::Name;
pub use observation::{EngineState, Observation};
pub use port::{Port, Protocol};
pub use pull::{PullProgress, PullStep, RegistryCredentials};
pub use reference::ImageReference;
pub use sight::{Connection, Knock, Look, Target, Terminal};
pub use volume::{MountPoint, VolumeName, Volumes};
pub use wake::{Demand, Wake};
