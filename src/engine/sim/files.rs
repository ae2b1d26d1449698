//! A simulated container's file system: what was put into it, on top of the directories that every image has.

use std::collections::BTreeMap;

use crate::model::{Error, File, Result};

/// Directories that are there from the start.
const DIRECTORIES: [&str; 9] = ["/", "/etc", "/etc/ssh", "/home", "/home/student", "/opt", "/root", "/tmp", "/var"];

/// The users that every image has.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000::/home/student:/bin/sh\n";

/// Files and directories by their absolute path.
#[derive(Debug)]
pub(super) struct Files(BTreeMap<String, File>);

impl Default for Files {
    fn default() -> Self {
        let content = Some(PASSWD.as_bytes().to_vec());
        let passwd = File { path: "passwd".to_owned(), mode: 0o644, uid: 0, gid: 0, content };
        Self(BTreeMap::from([("/etc/passwd".to_owned(), passwd)]))
    }
}

impl Files {
    /// Puts files below `into`.
    pub(super) fn put(&mut self, into: &str, files: &[File]) -> Result<()> {
        let into = normal(into);
        if !self.is_directory(&into) {
            return Err(Error::not_found(format!("the container has no {into:?}")));
        }
        let bad = |path: &str| path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if let Some(file) = files.iter().find(|file| bad(&file.path)) {
            return Err(Error::invalid(format!("{:?} is not a path below a directory", file.path)));
        }
        for file in files {
            self.0.insert(join(&into, &file.path), file.clone());
        }
        Ok(())
    }

    /// What is at `path` and below it, with paths that begin with the last part of `path`.
    pub(super) fn get(&self, path: &str) -> Result<Vec<File>> {
        let path = normal(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let missing = || Error::not_found(format!("the container has no {path:?}"));
        let top = match self.0.get(&path) {
            Some(file) => File { path: name.to_owned(), ..file.clone() },
            None if self.is_directory(&path) => {
                File { path: name.to_owned(), mode: 0o755, uid: 0, gid: 0, content: None }
            }
            None => return Err(missing()),
        };
        let inside = join(&path, "");
        let below = self.0.range(inside.clone()..).take_while(|(at, _)| at.starts_with(&inside));
        let below = below.map(|(at, file)| File { path: join(name, &at[inside.len()..]), ..file.clone() });
        Ok(std::iter::once(top.clone()).chain(below.filter(|_| top.content.is_none())).collect())
    }

    fn is_directory(&self, path: &str) -> bool {
        let inside = join(path, "");
        DIRECTORIES.contains(&path)
            || self.0.get(path).is_some_and(|file| file.content.is_none())
            || self.0.range(inside.clone()..).next().is_some_and(|(at, _)| at.starts_with(&inside))
    }
}

/// An absolute path without a slash at the end.
fn normal(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}

fn join(directory: &str, path: &str) -> String {
    if directory.ends_with('/') || directory.is_empty() {
        format!("{directory}{path}")
    } else {
        format!("{directory}/{path}")
    }
}
