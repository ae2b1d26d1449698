//! Unix sockets by paths of any length: a socket's own address has room for 108 bytes.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    ops::Deref,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A path that is short however long the folder's is, as long as this lives.
#[derive(Debug)]
pub(crate) struct ShortPath {
    path: PathBuf,
    _folder: File,
}

impl ShortPath {
    /// A short path to `name` in `folder`.
    pub(crate) fn of(folder: &Path, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let folder = File::open(folder)?;
        let path = Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name.as_ref());
        Ok(Self { path, _folder: folder })
    }
}

impl Deref for ShortPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}
