//! Disk: what a container takes, and what the host has left.

use super::Stamp;

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What can still be written.
    pub free: u64,
    /// What there is in all.
    pub total: u64,
}

/// What a container had written over its image when it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes.
    pub bytes: u64,
    /// When that was.
    pub at: Stamp,
}
