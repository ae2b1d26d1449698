//! The terminals of a container: the numbered devices below `/dev/pts` in it. Whoever is root in the container rules over
//! its files, so nothing is believed of a path: the folder must be of the file system that only the kernel fills, and
//! what is in it a terminal of that very one.

use std::{
    io::Write,
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Stat, fstat, fstatfs, major, openat,
        openat2, seek, stat, statat,
    },
    time::{ClockId, clock_gettime},
};

use super::process::Process;
use crate::model::Terminal;

/// What `fstatfs` says of a file system of terminals.
const DEVPTS: u64 = 0x1cd1;
/// The numbers of the kernel's driver of them.
const MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
/// The most of one container that are told of: whoever has more has enough to be busy.
const MOST: usize = 1_024;
/// Room for some names.
const NAMES: usize = 4 << 10;

/// The terminals of one container.
pub(super) struct Terminals {
    folder: OwnedFd,
    device: u64,
}

impl Terminals {
    /// Those that a process sees; `None` if it has no folder of its own for them.
    pub(super) fn of(process: &Process) -> Option<Self> {
        let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(process.folder(), c"root", folder | OFlags::PATH, Mode::empty()).ok()?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let path = openat2(&root, c"dev/pts", folder | OFlags::PATH, Mode::empty(), within).ok()?;
        // Asked before it is opened: to be opened is an event to some file systems.
        if u64::try_from(fstatfs(&path).ok()?.f_type) != Ok(DEVPTS) {
            return None;
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        let folder = openat2(&path, c".", folder | OFlags::RDONLY, Mode::empty(), beneath).ok()?;
        let device = fstat(&folder).ok()?.st_dev;
        // With the host's own the terminals are not the container's.
        let ours = stat(c"/dev/pts").is_ok_and(|ours| ours.st_dev == device);
        (!ours).then_some(Self { folder, device })
    }

    /// Those that are open now.
    pub(super) fn list(&self) -> Vec<Terminal> {
        let mut found = Vec::new();
        let now = clock_gettime(ClockId::Realtime);
        let now = Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
        self.each(|number, status| {
            // A time to come means that the clock was set back: nobody can tell then, so it counts as now.
            let quiet = now.saturating_sub(time_of_input(status));
            found.push(Terminal { number, quiet });
        });
        found
    }

    /// Writes to each of them what it takes at once; answers how many took it all.
    pub(super) fn tell(&self, line: &str) -> usize {
        let mut numbers = Vec::new();
        self.each(|number, _| numbers.push(number));
        let line = format!("\r\n{}\r\n", plain(line));
        numbers.into_iter().filter(|number| self.write(*number, line.as_bytes()).is_some()).count()
    }

    fn write(&self, number: u32, line: &[u8]) -> Option<()> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat2(&self.folder, number.to_string(), flags, Mode::empty(), resolve).ok()?;
        if !self.is_terminal(&fstat(&found).ok()?) {
            return None;
        }
        // What was looked at is what is opened, whatever has become of its name.
        let way = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let terminal = openat(CWD, way, flags, Mode::empty()).ok()?;
        std::fs::File::from(terminal).write_all(line).ok()
    }

    /// Goes through them.
    fn each(&self, mut each: impl FnMut(u32, &Stat)) {
        if seek(&self.folder, SeekFrom::Start(0)).is_err() {
            return;
        }
        let mut names = [MaybeUninit::uninit(); NAMES];
        let mut entries = RawDir::new(&self.folder, &mut names);
        let mut count = 0;
        while let Some(Ok(entry)) = entries.next() {
            let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(status) = statat(&self.folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if self.is_terminal(&status) {
                each(number, &status);
                count += 1;
            }
            if count == MOST {
                return;
            }
        }
    }

    /// Whether it is one of ours. One of another file system was mounted over ours.
    fn is_terminal(&self, status: &Stat) -> bool {
        FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && MAJORS.contains(&major(status.st_rdev))
            && status.st_dev == self.device
    }
}

/// When input was last read, to eight seconds: the kernel does not tell it more exactly, lest lengths of passwords show.
fn time_of_input(status: &Stat) -> Duration {
    Duration::from_secs(status.st_atime.try_into().unwrap_or(0))
}

/// A line without anything that does more than show.
fn plain(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_only_shows() {
        for (line, expected) in [
            ("stops in 5 minutes", "stops in 5 minutes"),
            ("a\r\nb", "ab"),
            ("\u{1b}]0;title\u{7}bell", "]0;titlebell"),
            ("\u{9b}31mred", "31mred"),
            ("grüß Gott", "grüß Gott"),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }
}
