//! What the kernel keeps of a container by its cgroup: where that is, the files that count, the processes in it, and its
//! memory. Both versions, also side by side.

use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, pread, write},
};

use crate::model::EngineId;

/// The most processes of one container that are looked at, and the most cgroups below its own.
const MOST_PROCESSES: usize = 8_192;
const MOST_FOLDERS: usize = 1_024;
/// How much memory the kernel is asked to take at once: after each piece it is seen whether the container is still frozen,
/// for whoever has it go on needs it.
const PIECE: u64 = 64 << 20;

/// Where cgroups are mounted on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Hierarchies(Vec<Mount>);

/// One mounted hierarchy.
#[derive(Clone, Debug)]
struct Mount {
    kind: Kind,
    /// What of the hierarchy is to be seen …
    root: String,
    /// … and where.
    folder: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Version 1, with the options that name its controllers among others.
    Controllers(Vec<String>),
    /// Version 2.
    Unified,
}

impl Hierarchies {
    /// What is mounted where this process is.
    pub(super) fn here() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// Reads `/proc/<pid>/mountinfo`.
    pub(super) fn parse(mountinfo: &str) -> Self {
        Self(mountinfo.lines().filter_map(mount).collect())
    }

    /// The cgroup of a container, by `/proc/<pid>/cgroup` of one of its processes; `None` if that is no process of it.
    pub(super) fn find(&self, membership: &str, id: &EngineId) -> Option<Cgroup> {
        let mut lines = membership
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                Some((controllers, cut(path, id)?))
            })
            .peekable();
        lines.peek()?;
        let mut cgroup = Cgroup::default();
        for (controllers, path) in lines {
            if controllers.is_empty() {
                cgroup.unified = self.folder(path, |kind| *kind == Kind::Unified);
                continue;
            }
            for controller in controllers.split(',') {
                let is_it =
                    |kind: &Kind| matches!(kind, Kind::Controllers(all) if all.iter().any(|one| one == controller));
                if let Some(folder) = self.folder(path, is_it) {
                    cgroup.folders.insert(controller.to_owned(), folder);
                }
            }
        }
        Some(cgroup)
    }

    /// Where this path of a hierarchy is to be seen.
    fn folder(&self, path: &str, is_it: impl Fn(&Kind) -> bool) -> Option<PathBuf> {
        self.0.iter().filter(|mount| is_it(&mount.kind)).find_map(|mount| {
            let below = Path::new(path).strip_prefix(&mount.root).ok()?;
            // Outside what a cgroup namespace shows.
            let outside = below.components().any(|part| part.as_os_str() == "..");
            (!outside).then(|| mount.folder.join(below))
        })
    }
}

/// One line of `mountinfo`, if it is a cgroup's.
fn mount(line: &str) -> Option<Mount> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, folder) = (place.next()?.to_owned(), PathBuf::from(place.next()?));
    let mut system = system.split(' ');
    let kind = match system.next()? {
        "cgroup2" => Kind::Unified,
        "cgroup" => Kind::Controllers(system.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Mount { kind, root, folder })
}

/// A path up to the part that is the container's: a process may be in a cgroup below it.
fn cut<'a>(path: &'a str, id: &EngineId) -> Option<&'a str> {
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        let scope = part.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope"));
        if part == id.as_str() || scope == Some(id.as_str()) {
            return path.get(..end);
        }
        end += 1;
    }
    None
}

/// The cgroup of a container: its folders in the hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroup {
    folders: HashMap<String, PathBuf>,
    unified: Option<PathBuf>,
}

impl Cgroup {
    /// How long processors have worked for it.
    pub(super) fn processor(&self) -> Option<Gauge> {
        self.gauge("cpuacct", "cpuacct.usage", nanoseconds)
            .or_else(|| Gauge::open(self.unified.as_ref()?, "cpu.stat", used_microseconds))
    }

    /// How many bytes it has moved from and to disks.
    pub(super) fn disk(&self) -> Option<Gauge> {
        self.gauge("blkio", "blkio.throttle.io_service_bytes_recursive", total)
            .or_else(|| self.gauge("blkio", "blkio.throttle.io_service_bytes", total))
            .or_else(|| Gauge::open(self.unified.as_ref()?, "io.stat", read_and_written))
    }

    fn gauge(&self, controller: &str, file: &str, figure: Figure) -> Option<Gauge> {
        Gauge::open(self.folders.get(controller)?, file, figure)
    }

    /// The processes in it, and in cgroups below it.
    pub(super) fn processes(&self) -> Vec<u32> {
        let any = self.folders.get("cpuacct").or(self.unified.as_ref()).or_else(|| self.folders.values().next());
        let mut found = Vec::new();
        let mut folders: Vec<PathBuf> = any.cloned().into_iter().collect();
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
            seen += 1;
            if seen == MOST_FOLDERS || found.len() > MOST_PROCESSES {
                break;
            }
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(below.filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir())).map(|one| one.path()));
        }
        found.truncate(MOST_PROCESSES);
        found
    }

    /// Asks the kernel to take all of its memory that it can do without for now, piece by piece as long as it is frozen;
    /// answers how much less it has then. `None` where the kernel has no way. This takes its time.
    pub(super) fn reclaim(&self) -> io::Result<Option<u64>> {
        let Some(folder) = &self.unified else { return Ok(None) };
        let (Some(before), Some(way)) = (memory_of(folder)?, open(folder, "memory.reclaim", OFlags::WRONLY)?) else {
            return Ok(None);
        };
        let mut left = before;
        while left > 0 && is_frozen(folder) {
            let piece = left.min(PIECE);
            match write(&way, piece.to_string().as_bytes()) {
                Ok(_) => left -= piece,
                // There is less to take than it has, as is to be expected.
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(memory_of(folder)?.map(|after| before.saturating_sub(after)))
    }
}

/// Whether it is to stand still: it shows there at once when somebody has it go on.
fn is_frozen(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
}

fn memory_of(folder: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(folder.join("memory.current")) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file of a cgroup; `None` if this kernel has none of that name.
fn open(folder: &Path, file: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    match openat(CWD, folder.join(file), flags | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a figure from the text that has it.
type Figure = fn(&str) -> Option<u64>;

/// One figure in a file that is kept open.
pub(super) struct Gauge {
    file: OwnedFd,
    figure: Figure,
}

impl Gauge {
    fn open(folder: &Path, file: &str, figure: Figure) -> Option<Self> {
        Some(Self { file: open(folder, file, OFlags::RDONLY).ok()??, figure })
    }

    /// What it is now.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Option<u64> {
        let length = pread(&self.file, &mut *buffer, 0).ok()?;
        (self.figure)(std::str::from_utf8(buffer.get(..length)?).ok()?)
    }

    /// What it is now, of a time in nanoseconds.
    pub(super) fn time(&self, buffer: &mut [u8]) -> Option<Duration> {
        self.read(buffer).map(Duration::from_nanos)
    }
}

/// `cpuacct.usage`.
fn nanoseconds(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `cpu.stat`, in nanoseconds.
fn used_microseconds(text: &str) -> Option<u64> {
    let figure: u64 = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()?;
    figure.checked_mul(1_000)
}

/// `blkio.throttle.io_service_bytes`: lines of devices, and their sum at the end. Without a device nothing can be told:
/// kernels from 6.10 on count there only where limits are set.
fn total(text: &str) -> Option<u64> {
    text.lines().next().filter(|line| line.contains(':'))?;
    text.lines().find_map(|line| line.strip_prefix("Total "))?.trim().parse().ok()
}

/// `io.stat`: a line for each device. What was thrown away is not counted, nor is anything there before the first use.
fn read_and_written(text: &str) -> Option<u64> {
    let figures = text.split_ascii_whitespace();
    let moved = figures.filter_map(|part| part.strip_prefix("rbytes=").or_else(|| part.strip_prefix("wbytes=")));
    moved.map(|figure| figure.parse::<u64>().ok()).try_fold(0, |sum: u64, figure| sum.checked_add(figure?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> EngineId {
        EngineId::parse(&"5a".repeat(32)).unwrap()
    }

    /// One unified hierarchy in a folder.
    fn unified(folder: &Path, root: &str) -> Hierarchies {
        Hierarchies::parse(&format!(
            "31 23 0:28 {root} {} rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
            folder.display()
        ))
    }

    #[test]
    fn a_container_is_known_by_its_id_and_by_nothing_less() {
        let hierarchies = unified(Path::new("/cg"), "/");
        let (id, other) = (id(), "5b".repeat(32));
        let found = |path: &str| hierarchies.find(&format!("0::{path}\n"), &id).map(|c| c.unified.unwrap());
        for (path, expected) in [
            (format!("/docker/{id}"), Some(format!("/cg/docker/{id}"))),
            (format!("/docker/{id}/init.scope"), Some(format!("/cg/docker/{id}"))),
            (format!("/system.slice/docker-{id}.scope"), Some(format!("/cg/system.slice/docker-{id}.scope"))),
            (format!("/docker/{other}"), None),
            (format!("/docker/{id}0"), None),
            (format!("/docker/x{id}"), None),
            ("/".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(found(&path), expected.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn what_a_namespace_hides_is_not_there() {
        let id = id();
        for (root, path, expected) in [
            ("/", format!("/docker/{id}"), Some(format!("/cg/docker/{id}"))),
            ("/docker", format!("/docker/{id}"), Some(format!("/cg/{id}"))),
            ("/..", format!("/../docker/{id}"), Some(format!("/cg/docker/{id}"))),
            ("/", format!("/../docker/{id}"), None),
            ("/elsewhere", format!("/docker/{id}"), None),
        ] {
            let found = unified(Path::new("/cg"), root).find(&format!("0::{path}"), &id).unwrap();
            assert_eq!(found.unified, expected.map(PathBuf::from), "{root} {path}");
        }
    }

    #[test]
    fn both_versions_are_found_side_by_side() {
        let id = id();
        let mounts = "33 31 0:30 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      38 31 0:35 / /cg/blkio rw - cgroup cgroup rw,blkio\n\
                      41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n\
                      23 27 0:22 / /sys rw - sysfs sysfs rw\n\
                      nonsense\n";
        let list = format!("9:name=systemd:/docker/{id}\n2:cpu,cpuacct:/docker/{id}\n7:blkio:/docker/{id}\n0::/\n");
        let found = Hierarchies::parse(mounts).find(&list, &id).unwrap();
        assert_eq!(found.folders["cpuacct"], PathBuf::from(format!("/cg/cpu,cpuacct/docker/{id}")));
        assert_eq!(found.folders["blkio"], PathBuf::from(format!("/cg/blkio/docker/{id}")));
        assert_eq!((found.folders.len(), found.unified), (3, None));
    }

    #[test]
    fn figures_are_read() {
        let io = "8:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=7 dios=0\n253:0 rbytes=1 wbytes=2\n";
        let table: [(Figure, &str, Option<u64>); 11] = [
            (nanoseconds, "45790541\n", Some(45_790_541)),
            (nanoseconds, "", None),
            (used_microseconds, "usage_usec 12\nuser_usec 3\n", Some(12_000)),
            (used_microseconds, "user_usec 3\n", None),
            (used_microseconds, "usage_usec 18446744073709551615\n", None),
            (total, "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n", Some(3)),
            (total, "", None),
            (total, "Total 0\n", None),
            (read_and_written, io, Some(18)),
            (read_and_written, "", Some(0)),
            (read_and_written, "8:0 rbytes=x", None),
        ];
        for (figure, text, expected) in table {
            assert_eq!(figure(text), expected, "{text:?}");
        }
    }

    /// A container's cgroup of version 2, with one below it.
    fn tree() -> (tempfile::TempDir, PathBuf, Cgroup) {
        let root = tempfile::tempdir().unwrap();
        let id = id();
        let folder = root.path().join(format!("system.slice/docker-{id}.scope"));
        fs::create_dir_all(folder.join("below")).unwrap();
        for (file, text) in [
            ("cgroup.procs", "1\n2\n"),
            ("below/cgroup.procs", "3\n"),
            ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=5 rios=1\n"),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
        let list = format!("0::/system.slice/docker-{id}.scope\n");
        let cgroup = unified(root.path(), "/").find(&list, &id).unwrap();
        (root, folder, cgroup)
    }

    #[test]
    fn version_two_tells_of_work_disks_and_processes() {
        let (_root, folder, cgroup) = tree();
        let (processor, disk) = (cgroup.processor().unwrap(), cgroup.disk().unwrap());
        let mut buffer = [0; 4096];
        assert_eq!(processor.time(&mut buffer), Some(Duration::from_millis(2_500)));
        assert_eq!(disk.read(&mut buffer), Some(15));
        assert_eq!(cgroup.processes(), [1, 2, 3]);
        // The files are kept open, and tell what is in them now.
        fs::write(folder.join("cpu.stat"), "usage_usec 3000000\n").unwrap();
        assert_eq!(processor.time(&mut buffer), Some(Duration::from_secs(3)));
    }

    #[test]
    fn memory_is_reclaimed_where_there_is_a_way() {
        let (_root, folder, cgroup) = tree();
        assert_eq!(cgroup.reclaim().unwrap(), None);
        fs::write(folder.join("memory.current"), "4096\n").unwrap();
        assert_eq!(cgroup.reclaim().unwrap(), None);
        let asked = || fs::read_to_string(folder.join("memory.reclaim")).unwrap();
        for (frozen, memory, expected) in [
            (None, 4_096, ""),
            (Some("0\n"), 4_096, ""),
            (Some("1\n"), 4_096, "4096"),
            // The last piece is what is left. A file keeps all that is written to it one after the other.
            (Some("1\n"), 2 * PIECE + 7, "67108864671088647"),
        ] {
            fs::write(folder.join("memory.reclaim"), "").unwrap();
            fs::write(folder.join("memory.current"), format!("{memory}\n")).unwrap();
            if let Some(frozen) = frozen {
                fs::write(folder.join("cgroup.freeze"), frozen).unwrap();
            }
            assert_eq!(cgroup.reclaim().unwrap(), Some(0));
            assert_eq!(asked(), expected, "{frozen:?} {memory}");
        }
        assert_eq!(Cgroup::default().reclaim().unwrap(), None);
    }

    #[test]
    fn whoever_goes_on_keeps_what_memory_he_still_has() {
        let (_root, folder, cgroup) = tree();
        fs::write(folder.join("memory.current"), (1_000_000 * PIECE).to_string()).unwrap();
        fs::write(folder.join("cgroup.freeze"), "1\n").unwrap();
        let way = folder.join("memory.reclaim");
        rustix::fs::mkfifoat(CWD, &way, Mode::RUSR | Mode::WUSR).unwrap();
        let reclaim = std::thread::spawn(move || cgroup.reclaim().unwrap());
        // It writes into a pipe, which has no room for all of them, until it is let go on.
        let mut file = fs::File::open(way).unwrap();
        let mut piece = [0; 8];
        std::io::Read::read_exact(&mut file, &mut piece).unwrap();
        assert_eq!(&piece, b"67108864");
        fs::write(folder.join("cgroup.freeze"), "0\n").unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut file, &mut rest).unwrap();
        assert_eq!(reclaim.join().unwrap(), Some(0));
        assert!(rest.len() < 999_999 * 8, "{} pieces after the first", rest.len() / 8);
    }
}
