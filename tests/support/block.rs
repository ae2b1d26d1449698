//! A block of the machine that belongs to one test at a time: a range of ports, a subnet, a bridge, an instance's name.
//! Whatever an earlier test that was killed left in the block is cleared away when it is taken.

use std::{fs::File, path::Path, process::Command};

use ipnet::Ipv4Net;
use spindown::{engine::NetworkSpec, model::birth};

/// How many blocks there are, and how many ports each has: 10000 to 19999 in all, so that a server of the default
/// configuration may run beside the tests.
const BLOCKS: u16 = 200;
const PORTS: u16 = 50;

/// The image that the tests run.
pub const IMAGE: &str = "spindown/ssh";

/// One block, held until it is dropped.
pub struct Block {
    number: u16,
    _lock: File,
}

impl Block {
    /// Takes a free block.
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("spindown-test-blocks");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..BLOCKS {
            let lock = File::create(folder.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() {
                let block = Self { number, _lock: lock };
                block.clear();
                return block;
            }
        }
        panic!("all {BLOCKS} blocks are taken: are other tests running?");
    }

    /// The name of the instance of Spindown that lives in this block.
    pub fn instance(&self) -> String {
        format!("sdtest{}", self.number)
    }

    /// The first and last port.
    pub fn ports(&self) -> (u16, u16) {
        let first = 10_000 + self.number * PORTS;
        (first, first + PORTS - 1)
    }

    /// The network.
    pub fn network(&self) -> NetworkSpec {
        let subnet = format!("10.99.{}.0/24", self.number).parse::<Ipv4Net>().unwrap();
        NetworkSpec { name: self.instance(), bridge: self.instance(), subnet }
    }

    /// Removes all that lives here: containers, volumes, network, rules.
    fn clear(&self) {
        let instance = self.instance();
        let ids =
            output("docker", &["ps", "-aq", "--no-trunc", "--filter", &format!("label={}={instance}", birth::MANAGED)]);
        for id in ids.split_whitespace() {
            output("docker", &["rm", "-f", "-v", id]);
        }
        let volumes =
            output("docker", &["volume", "ls", "-q", "--filter", &format!("label={}={instance}", birth::MANAGED)]);
        for volume in volumes.split_whitespace() {
            output("docker", &["volume", "rm", volume]);
        }
        if Path::new("/sys/class/net").join(&instance).exists() {
            output("docker", &["network", "rm", &instance]);
        }
        for family in ["inet", "bridge"] {
            output("nft", &["delete", "table", family, &instance]);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Runs a command and answers what it wrote, whether it succeeded or not.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
