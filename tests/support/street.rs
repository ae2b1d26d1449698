//! A street before the house: a network namespace beside the machine, with people in it who each have an address of their
//! own. Whoever connects from the machine itself comes from the gateway, as the engine's proxy does for all of them.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    process::{Command, Stdio},
    thread,
};

use rustix::{
    net::{AddressFamily, SocketType, bind, connect, socket},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{block::Block, server::run};

/// How many people there are.
const PEOPLE: u8 = 100;

/// The namespace; it is gone when this is dropped.
pub struct Street {
    name: String,
    link: String,
    third: u8,
}

impl Street {
    /// The street before what lives in this block.
    pub fn before(block: &Block) -> Self {
        let instance = block.instance();
        let third = block.network().subnet.addr().octets()[2];
        let street = Self { name: format!("{instance}-street"), link: format!("{instance}s"), third };
        // What a test that was killed left.
        street.clear();
        let (name, link) = (street.name.as_str(), street.link.as_str());
        run("ip", &["netns", "add", name]);
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name]);
        run("ip", &["addr", "add", &format!("{}/24", street.house()), "dev", link]);
        run("ip", &["link", "set", link, "up"]);
        for person in 0..PEOPLE {
            run("ip", &["-n", name, "addr", "add", &format!("{}/24", street.person(person)), "dev", "eth0"]);
        }
        run("ip", &["-n", name, "link", "set", "eth0", "up"]);
        street
    }

    /// The machine's address there.
    pub fn house(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.third, 1)
    }

    /// Somebody's address.
    pub fn person(&self, number: u8) -> Ipv4Addr {
        assert!(number < PEOPLE);
        Ipv4Addr::new(198, 18, self.third, 2 + number)
    }

    /// The same command, run from there.
    pub fn command(&self, command: &Command) -> Command {
        let mut there = Command::new("setpriv");
        there.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.name]);
        there.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        there
    }

    /// Somebody connects to a port of the machine.
    ///
    /// # Errors
    /// What becomes of that.
    pub fn connect(&self, person: u8, port: u16) -> io::Result<TcpStream> {
        let space = File::open(format!("/run/netns/{}", self.name))?;
        let (from, to) = (SocketAddrV4::new(self.person(person), 0), SocketAddrV4::new(self.house(), port));
        // A socket stays in the namespace that it was made in; a thread is moved there for good, and so ends.
        let work = thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network))?;
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&socket, &from)?;
            connect(&socket, &to)?;
            Ok(TcpStream::from(socket))
        });
        work.join().unwrap()
    }

    fn clear(&self) {
        let quiet = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap().stdout
        };
        let there = quiet("ip", &["netns", "pids", &self.name]);
        for pid in String::from_utf8_lossy(&there).split_whitespace() {
            quiet("kill", &["-9", pid]);
        }
        quiet("ip", &["link", "del", &self.link]);
        quiet("ip", &["netns", "del", &self.name]);
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        self.clear();
    }
}
