//! The native API, `/v1`: every documented call of spin-docker, and more beside it.

pub mod check_in;
pub mod container;
pub mod disk;
pub mod event;
pub mod health;
pub mod image;
pub mod metrics;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// RFC 3339, to the millisecond.
fn date(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let at = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_default()
}
