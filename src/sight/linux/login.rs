//! Who has logged in: the sessions of OpenSSH among the processes of a container, and the sockets that they hold.

use std::{collections::HashSet, fs, io, path::Path};

use tokio::time::Instant;

/// What the processes of OpenSSH call themselves, before and since version 9.8.
const TITLES: [&str; 2] = ["sshd: ", "sshd-session: "];
/// How their programs' names begin.
const PROGRAM: &[u8] = b"sshd";
/// What is read of a title.
const TITLE: usize = 256;
/// The most processes of one container whose files are looked through, and the most files of each. A process calls itself
/// what it likes, and may have a million files; the lowest come first, and a session's connection is one of its first.
const MOST_SESSIONS: usize = 512;
const MOST_FILES: usize = 256;

/// The sockets of sessions that have logged in, by what they are called in `/proc/<pid>/fd`.
///
/// # Errors
/// `TimedOut` if they are not all found by then.
pub(super) fn sockets(processes: &[u32], until: Instant) -> io::Result<HashSet<u32>> {
    sockets_below(Path::new("/proc"), processes, until)
}

fn sockets_below(root: &Path, processes: &[u32], until: Instant) -> io::Result<HashSet<u32>> {
    let mut found = HashSet::new();
    let mut sessions = 0;
    for process in processes {
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let folder = root.join(process.to_string());
        if !title(&folder).is_some_and(|title| is_session(&title)) {
            continue;
        }
        let files = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().take(MOST_FILES);
        found.extend(files.filter_map(|file| socket(fs::read_link(file.path()).ok()?.to_str()?)));
        sessions += 1;
        if sessions == MOST_SESSIONS {
            break;
        }
    }
    Ok(found)
}

/// What a process calls itself; `None` if it has gone, or is none of OpenSSH's.
///
/// The title is in the process's own memory, which some that is stuck may keep locked. So only those are asked that
/// have the right program's name, which the kernel has.
fn title(folder: &Path) -> Option<String> {
    let mut bytes = [0; TITLE];
    let name = begin(&folder.join("comm"), &mut bytes)?;
    if !name.starts_with(PROGRAM) {
        return None;
    }
    let title = begin(&folder.join("cmdline"), &mut bytes)?;
    let end = title.iter().position(|byte| *byte == 0).unwrap_or(title.len());
    Some(String::from_utf8_lossy(&title[..end]).into_owned())
}

/// How a file begins.
fn begin<'a>(path: &Path, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = fs::File::open(path).ok()?;
    let length = rustix::io::pread(&file, &mut *buffer, 0).ok()?;
    buffer.get(..length)
}

/// Whether a process of this title serves somebody who has logged in: `USER@pts/0`, `USER@notty`, or `USER` alone for one
/// who asked for no session, to have ports forwarded. Whoever has not is served under a name with brackets (`[net]`,
/// `[priv]`, `[accepted]`), and so is the listener.
fn is_session(title: &str) -> bool {
    let user = TITLES.iter().find_map(|begin| title.strip_prefix(begin)).map(str::trim_end);
    user.is_some_and(|user| !user.is_empty() && !user.starts_with(['/', '@']) && !user.contains([' ', '[', ']']))
}

/// The number of a socket, from what a link in `/proc/<pid>/fd` leads to.
fn socket(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    /// A folder like `/proc`, with processes from 1 on that look like sessions and have so many sockets each.
    fn sessions(count: u32, files: u32) -> (tempfile::TempDir, Vec<u32>) {
        let root = tempfile::tempdir().unwrap();
        let processes: Vec<u32> = (1..=count).collect();
        for process in &processes {
            let folder = root.path().join(process.to_string());
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::write(folder.join("comm"), "sshd\n").unwrap();
            fs::write(folder.join("cmdline"), "sshd: student@pts/0\0").unwrap();
            for file in 0..files {
                symlink(format!("socket:[{}]", process * 1_000 + file), folder.join("fd").join(file.to_string()))
                    .unwrap();
            }
        }
        (root, processes)
    }

    #[test]
    fn whoever_pretends_to_be_a_crowd_is_not_looked_through_for_ever() {
        let later = || Instant::now() + Duration::from_secs(60);
        for (count, files, expected) in
            [(3, 4, 12), (1, 300, MOST_FILES), (600, 1, MOST_SESSIONS), (2, 300, 2 * MOST_FILES)]
        {
            let (root, processes) = sessions(count, files);
            let found = sockets_below(root.path(), &processes, later()).unwrap();
            assert_eq!(found.len(), expected, "{count} with {files} each");
        }
    }

    #[test]
    fn a_search_ends_when_its_time_is_over() {
        let (root, processes) = sessions(2, 2);
        let late = sockets_below(root.path(), &processes, Instant::now()).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(sockets_below(root.path(), &[], Instant::now()).unwrap().is_empty());
    }

    #[test]
    fn a_session_is_told_from_what_has_not_logged_in() {
        for (title, expected) in [
            ("sshd: student@pts/0", true),
            ("sshd: student@pts/0,pts/1", true),
            ("sshd: student@notty", true),
            ("sshd: student@internal-sftp", true),
            ("sshd: student@notty    ", true),
            ("sshd: student", true),
            ("sshd-session: root@pts/3", true),
            ("sshd: student [priv]", false),
            ("sshd: student [net]", false),
            ("sshd: unknown [net]", false),
            ("sshd: [accepted]", false),
            ("sshd: root [preauth]", false),
            ("sshd-session: student [priv]", false),
            ("sshd-auth: student [net]", false),
            ("sshd: /usr/sbin/sshd -D -e [listener] 1 of 10-100 startups", false),
            ("sshd: /usr/sbin/sshd", false),
            ("/usr/sbin/sshd", false),
            ("sshd: ", false),
            ("sshd", false),
            ("vim sshd: student@pts/0", false),
            ("", false),
        ] {
            assert_eq!(is_session(title), expected, "{title:?}");
        }
    }

    #[test]
    fn a_socket_is_known_by_its_number() {
        for (link, expected) in
            [("socket:[17692374]", Some(17_692_374)), ("socket:[]", None), ("pipe:[3]", None), ("/dev/null", None)]
        {
            assert_eq!(socket(link), expected, "{link}");
        }
    }
}
