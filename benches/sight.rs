//! A look at a thousand containers: what it costs in processor time. They are bare: a process in a network, a mount
//! namespace with terminals, and a cgroup of its own, which is all that is looked at. The engine could not start as many
//! here.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use spindown::{
    model::{ContainerId, EngineId, Target},
    sight::{Sight, linux::Linux},
};

use crate::table::{Aim, Row, median};

const MANY: u32 = 1_000;
const LOOKS: usize = 24;
/// What all of them together may cost, with a look every five seconds: a twentieth of a processor.
const AIM: Aim = Aim::AtMost(250.0);
/// How large a network's own table of connections is, where it has one.
const TABLE: &str = "/proc/sys/net/ipv4/tcp_child_ehash_entries";

/// Says a byte when it is there; told one, makes a connection that stays, and says a byte again.
const INMATE: &str = r#"
use Socket; $| = 1; syswrite STDOUT, 'x'; sysread STDIN, my $b, 1 or exit;
my @of = map { inet_aton("10.0.0.$_") } 1, 2;
socket(my $s, PF_INET, SOCK_STREAM, 0); bind($s, pack_sockaddr_in(22, $of[0])) or die; listen($s, 1);
socket(my $c, PF_INET, SOCK_STREAM, 0); bind($c, pack_sockaddr_in(0, $of[1])); connect($c, pack_sockaddr_in(22, $of[0])) or die;
accept(my $a, $s); syswrite STDOUT, 'x'; sleep 3600;
"#;

/// One that is looked at. It ends when this is dropped.
struct Inmate {
    child: Child,
    target: Target,
    cgroups: Vec<PathBuf>,
}

impl Inmate {
    fn start(number: u32) -> Self {
        let id = format!("{:032x}{number:032x}", u128::from(std::process::id()));
        let cgroups: Vec<PathBuf> = hierarchies().into_iter().map(|folder| folder.join(&id)).collect();
        let mut join = String::new();
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup).unwrap();
            join.push_str(&format!("echo $$ >{}/cgroup.procs; ", cgroup.display()));
        }
        let within = "mount -t devpts devpts /dev/pts; ip link set lo up; ip addr add 10.0.0.1/32 dev lo; \
                      ip addr add 10.0.0.2/32 dev lo; exec perl -e \"$0\"";
        let script = format!("{join} exec unshare --net --mount sh -ec '{within}' \"$0\"");
        // Should the bench be killed, they end too.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-ec", &script, INMATE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (id, engine_id) = (ContainerId::from_bits(number.into()), EngineId::parse(&id).unwrap());
        Self { target: Target { id, engine_id, pid: child.id(), logins: true, surely: false }, child, cgroups }
    }

    /// Waits until it has said something.
    fn hear(&mut self) {
        self.child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    fn connect(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for cgroup in &self.cgroups {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// Where cgroups are made: with version 1 in two hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() {
        return ["cpuacct", "blkio"].map(|one| root.join(one).join("spindown-bench")).to_vec();
    }
    let ours = root.join("spindown-bench");
    fs::create_dir_all(&ours).unwrap();
    for folder in [root, &ours] {
        let _ = fs::write(folder.join("cgroup.subtree_control"), "+cpu +io");
    }
    vec![ours]
}

/// All of them.
struct Yard(Vec<Inmate>);

impl Yard {
    fn start() -> Self {
        let mut yard = Self(Vec::new());
        // A few at a time.
        for number in 0..MANY {
            yard.0.push(Inmate::start(number));
            if number >= 4 {
                yard.0[number as usize - 4].hear();
            }
        }
        for inmate in yard.0.iter_mut().rev().take(4) {
            inmate.hear();
        }
        yard
    }

    fn connect(&mut self) {
        for inmate in &mut self.0 {
            inmate.connect();
            inmate.hear();
        }
    }

    fn targets(&self, logins: bool) -> Vec<Target> {
        self.0.iter().map(|inmate| Target { logins, ..inmate.target.clone() }).collect()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.0.clear();
        for folder in hierarchies() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A setting of the kernel, put back when this is dropped.
struct Setting(String);

impl Setting {
    fn small_tables() -> Self {
        let before = fs::read_to_string(TABLE).unwrap();
        fs::write(TABLE, "1024").unwrap();
        Self(before)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(TABLE, &self.0).unwrap();
    }
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// One look: what it cost, and how long it took.
async fn look(eyes: &Linux, targets: Vec<Target>, connections: usize) -> (Duration, Duration) {
    let (before, begun) = (processor(), Instant::now());
    let looks = eyes.look(targets).await;
    let (cost, took) = (processor() - before, begun.elapsed());
    for (_, look) in looks {
        let look = look.unwrap();
        assert_eq!((look.connections.len(), look.processor.is_some()), (connections, true), "{look:?}");
    }
    (cost, took)
}

/// The middle of many looks.
async fn looks(eyes: &Linux, what: &str, targets: Vec<Target>, connections: usize) -> Vec<Row> {
    let (mut costs, mut took) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let (cost, time) = look(eyes, targets.clone(), connections).await;
        costs.push(cost);
        took.push(time);
    }
    let milliseconds = |times: &[Duration]| median(times).as_secs_f64() * 1e3;
    let dearest = costs.iter().max().unwrap().as_secs_f64() * 1e3;
    vec![
        Row::figure(format!("a look at 1,000, {what}: processor"), milliseconds(&costs), "ms", AIM),
        Row::figure(format!("a look at 1,000, {what}: the dearest of {LOOKS}"), dearest, "ms", AIM),
        Row::figure(format!("a look at 1,000, {what}: until the answer"), milliseconds(&took), "ms", Aim::None),
    ]
}

pub async fn measure() -> Vec<Row> {
    let mut rows = Vec::new();
    for (tables, small) in [("the machine's table", false), ("tables of 1,024", true)] {
        let _setting = small.then(Setting::small_tables);
        let mut yard = Yard::start();
        let eyes = Linux::new().unwrap();
        assert!(eyes.sees());
        let (cost, _) = look(&eyes, yard.targets(true), 0).await;
        let what = format!("the first look at 1,000, {tables}: processor");
        rows.push(Row::figure(what, cost.as_secs_f64() * 1e3, "ms", Aim::None));
        rows.extend(looks(&eyes, &format!("none connected, {tables}"), yard.targets(true), 0).await);
        yard.connect();
        rows.extend(looks(&eyes, &format!("all connected, {tables}"), yard.targets(false), 2).await);
        rows.extend(looks(&eyes, &format!("all connected, with logins, {tables}"), yard.targets(true), 2).await);
    }
    rows
}
