//! Images of a test's own, made from the sandbox's base.

use std::process::{Command, Stdio};

use super::{block::Block, server::run};

/// An image, removed when this is dropped.
pub struct Brew(pub String);

impl Brew {
    /// Makes an image called after the block, with these lines in its Dockerfile.
    pub fn build(block: &Block, name: &str, lines: &str) -> Self {
        Self::build_with(block, name, lines, &[])
    }

    /// The same, with files for `COPY`.
    pub fn build_with(block: &Block, name: &str, lines: &str, files: &[(&str, &str)]) -> Self {
        let name = format!("spindown-test/{}-{name}", block.instance());
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files.iter().chain(&[("Dockerfile", lines)]) {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        run("docker", &["build", "-q", "-t", &name, folder.path().to_str().unwrap()]);
        Self(name)
    }
}

impl Drop for Brew {
    fn drop(&mut self) {
        let quiet =
            Command::new("docker").args(["rmi", "-f", &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        drop(quiet);
    }
}
