//! Who has logged in: the sessions of OpenSSH among the processes of a container, and the sockets that they hold.

use std::{collections::HashSet, fs, path::Path};

/// What the processes of OpenSSH call themselves, before and since version 9.8.
const TITLES: [&str; 2] = ["sshd: ", "sshd-session: "];
/// How their programs' names begin.
const PROGRAM: &[u8] = b"sshd";
/// What is read of a title.
const TITLE: usize = 256;

/// The sockets of sessions that have logged in, by what they are called in `/proc/<pid>/fd`.
pub(super) fn sockets(processes: &[u32]) -> HashSet<u32> {
    let mut found = HashSet::new();
    for process in processes {
        let folder = Path::new("/proc").join(process.to_string());
        if title(&folder).is_some_and(|title| is_session(&title)) {
            let files = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
            found.extend(files.filter_map(|file| socket(fs::read_link(file.path()).ok()?.to_str()?)));
        }
    }
    found
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
    use super::*;

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
