//! A block of the machine that belongs to one test at a time: a range of ports, a subnet, a bridge, an instance's name.
//! Whatever an earlier test that was killed left in the block is cleared away when it is taken.

use std::{fs::File, net::Ipv4Addr, path::Path, process::Command};

use ipnet::Ipv4Net;
use spindown::{engine::NetworkSpec, model::birth};

/// What blocks of one kind look like. A server of the default configuration may run beside all of them.
struct Kind {
    /// How their names begin, as interfaces may be called: 15 characters with the number.
    name: &'static str,
    blocks: u16,
    first_port: u16,
    /// Where the ports of their doors begin.
    first_door: u16,
    /// How many ports each has.
    ports: u16,
    /// The second number of their addresses, and how many bits of an address name the network.
    network: (u8, u8),
}

/// What most tests need: 10000 to 19990, 10.99.0.0/16.
const SMALL: Kind =
    Kind { name: "sdtest", blocks: 200, first_port: 10_000, first_door: 9_100, ports: 50, network: (99, 24) };
/// What hundreds of containers need: 61000 to 64999, 10.98.0.0/18.
const WIDE: Kind =
    Kind { name: "sdwide", blocks: 4, first_port: 61_000, first_door: 9_000, ports: 1_000, network: (98, 20) };

/// The image that the tests run.
pub const IMAGE: &str = "spindown/ssh";

/// One block, held until it is dropped.
pub struct Block {
    kind: &'static Kind,
    number: u16,
    _lock: File,
}

impl Block {
    /// Takes a free block.
    pub fn take() -> Self {
        Self::take_kind(&SMALL)
    }

    /// Takes a free block with room for hundreds of containers.
    pub fn take_wide() -> Self {
        Self::take_kind(&WIDE)
    }

    fn take_kind(kind: &'static Kind) -> Self {
        let folder = std::env::temp_dir().join("spindown-test-blocks");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..kind.blocks {
            // The small ones have been called by their number alone for as long as there are any.
            let name = if std::ptr::eq(kind, &SMALL) { number.to_string() } else { format!("{}{number}", kind.name) };
            let lock = File::create(folder.join(name)).unwrap();
            if lock.try_lock().is_ok() {
                let block = Self { kind, number, _lock: lock };
                // An engine under load may lose count of a network's endpoints, and keeps it until it is restarted.
                if block.clear() {
                    return block;
                }
            }
        }
        panic!("all {} blocks {:?} are taken: are other tests running?", kind.blocks, kind.name);
    }

    /// The name of the instance of Spindown that lives in this block.
    pub fn instance(&self) -> String {
        format!("{}{}", self.kind.name, self.number)
    }

    /// The first and last port.
    pub fn ports(&self) -> (u16, u16) {
        let first = self.kind.first_port + self.number * self.kind.ports;
        (first, first + self.kind.ports - 1)
    }

    /// The port of its door.
    pub fn door(&self) -> u16 {
        self.kind.first_door + self.number
    }

    /// The network.
    pub fn network(&self) -> NetworkSpec {
        let (second, bits) = self.kind.network;
        let third = u8::try_from(self.number << (24 - bits)).unwrap();
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, second, third, 0), bits).unwrap();
        NetworkSpec { name: self.instance(), bridge: self.instance(), subnet }
    }

    /// Removes all that lives here: containers, volumes, network, rules. Answers whether the network is gone.
    fn clear(&self) -> bool {
        let instance = self.instance();
        let ids =
            output("docker", &["ps", "-aq", "--no-trunc", "--filter", &format!("label={}={instance}", birth::MANAGED)]);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        for some in ids.chunks(50) {
            output("docker", &[&["rm", "-f", "-v"], some].concat());
        }
        let volumes =
            output("docker", &["volume", "ls", "-q", "--filter", &format!("label={}={instance}", birth::MANAGED)]);
        for volume in volumes.split_whitespace() {
            output("docker", &["volume", "rm", volume]);
        }
        let bridge = Path::new("/sys/class/net").join(&instance);
        if bridge.exists() {
            output("docker", &["network", "rm", &instance]);
        }
        for family in ["inet", "bridge"] {
            output("nft", &["delete", "table", family, &instance]);
        }
        !bridge.exists()
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
