//! The text of the rules, from parameters alone. Applying it, and finding out whether it is still there, is `nft`'s.
//!
//! Two tables of one name. In `inet` a chain per way that a packet from the bridge can take: `arriving` (all of them),
//! `host` (to the host itself) and `beyond` (through the host). In `bridge` the chain `between`: from port to port.
//!
//! What another table accepts is dropped here all the same, for a drop is final; but an accept here is only "not
//! dropped by us": another table may still drop it. So these rules can take ways away, never open one.
//!
//! No rule lets a packet pass for being part of an established connection alone, save the answers to what others
//! began. A connection that a container made while the rules were gone ends when they are back.
//!
//! With a door, `inet` has its chains as well: `arriving_asleep` and `local_asleep` send connections for the ports in the set
//! `asleep` to the door's port, before the engine's own rules for published ports are asked; `door` lets nobody connect
//! to that port by itself. What comes from a container is never sent there.

use std::{
    collections::BTreeSet,
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;

use crate::model::{Error, Result};

/// How many connections to check-in one container may have at once.
pub const CONNECTIONS: u32 = 16;
/// How many it may begin per second, and in a burst.
pub const RATE: (u32, u32) = (10, 20);

/// Where clouds serve metadata, to whoever asks from the machine. All of link-local is among them.
const METADATA: &str = "169.254.0.0/16, 100.100.100.200, 168.63.129.16, 192.0.0.192";
/// Of those, the ones that are the cloud's resolver too. Docker's resolver asks from within the container, so names
/// could not be resolved there if port 53 were closed as well.
const RESOLVERS: &str = "169.254.169.253, 169.254.169.254, 168.63.129.16";

/// The name of the set of ports that are asleep.
const ASLEEP: &str = "asleep";

/// What the rules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The name of both tables.
    pub table: String,
    /// The interface name of the containers' bridge.
    pub bridge: String,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// The port there that takes check-ins.
    pub check_in_port: u16,
    /// The containers' addresses.
    pub subnet: Ipv4Net,
    /// Where connections for ports that are asleep go; `None` if there is no door.
    pub door: Option<Door>,
}

/// Where the door is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The port on which it listens, on every address.
    pub port: u16,
    /// The address on which the engine publishes ports.
    pub published: IpAddr,
}

/// How the `bridge` table tells our frames from those of other bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// By the bridge's name: catches everything, and needs a kernel built with `NFT_BRIDGE_META`.
    Named,
    /// By the addresses in IPv4 and ARP, which every kernel can.
    Addressed,
}

impl Rules {
    /// Refuses what would not be read as a name, or would be read as more than that.
    pub(crate) fn check(&self) -> Result<()> {
        if !is_name(&self.table) || !self.table.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(Error::invalid(format!("`{}` is no name for an nftables table", self.table)));
        }
        if !is_name(&self.bridge) || self.bridge.len() > 15 {
            return Err(Error::invalid(format!("`{}` is no name for a network interface", self.bridge)));
        }
        if !self.subnet.contains(&self.gateway) {
            return Err(Error::invalid(format!("the gateway {} is not in {}", self.gateway, self.subnet)));
        }
        Ok(())
    }

    /// The tables as they should be, in place of whatever is there, as one transaction. `uplinks` are bridges that lead
    /// to the outside and so remain reachable, as no other bridge does.
    pub(crate) fn text(&self, uplinks: &[String], frames: Frames, asleep: &BTreeSet<u16>) -> String {
        let Self { table, bridge, gateway, check_in_port, subnet, door } = self;
        let subnet = subnet.trunc();
        let (rate, burst) = RATE;
        let uplinks: Vec<_> =
            uplinks.iter().filter(|u| is_name(u) && *u != bridge).map(|u| format!("\"{u}\"")).collect();
        let uplinks = match uplinks.as_slice() {
            [] => String::new(),
            some => format!(" oifname != {{ {} }}", some.join(", ")),
        };
        let mut text = self.removal();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            r#"table inet {table} {{
    set check_in_connections {{
        type ipv4_addr
        size 65536
        flags dynamic
    }}
    set check_in_rate {{
        type ipv4_addr
        size 65536
        flags dynamic,timeout
        timeout 1m
    }}
    chain arriving {{
        type filter hook prerouting priority -310; policy accept;
        iifname != "{bridge}" accept
        meta nfproto ipv6 counter drop
        ip saddr != {subnet} counter drop
        ip saddr {gateway} counter drop
        ip daddr {{ {RESOLVERS} }} meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr {{ {METADATA} }} counter drop
    }}
    chain host {{
        type filter hook input priority -10; policy accept;
        iifname != "{bridge}" accept
        ct state established,related ct direction reply accept
        ip daddr {gateway} tcp dport {check_in_port} jump check_in
        counter drop
    }}
    chain check_in {{
        ct state established accept
        ct state new update @check_in_rate {{ ip saddr limit rate over {rate}/second burst {burst} packets }} counter drop
        ct state new add @check_in_connections {{ ip saddr ct count over {CONNECTIONS} }} counter drop
        ct state new accept
    }}
    chain beyond {{
        type filter hook forward priority -10; policy accept;
        iifname != "{bridge}" accept
        oifname "{bridge}" counter drop
        ct state established,related ct direction reply accept
        ct status dnat counter drop
        meta oifkind "bridge"{uplinks} counter drop
    }}
{door}}}
table bridge {table} {{
    chain between {{
        type filter hook forward priority -250; policy accept;
{between}
    }}
}}
"#,
            between = frames.rules(bridge, subnet),
            door = door.map_or_else(String::new, |door| door.chains(bridge, asleep)),
        );
        text
    }

    /// Takes both tables away, whether they are there or not.
    pub(crate) fn removal(&self) -> String {
        let table = &self.table;
        ["inet", "bridge"].map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n")).concat()
    }

    /// Makes the set of the ports that are asleep what it should be, from what it is. Nothing to do is an empty text.
    pub(crate) fn change(&self, from: &BTreeSet<u16>, to: &BTreeSet<u16>) -> String {
        let table = &self.table;
        let line = |verb: &str, ports: BTreeSet<u16>| match ports.is_empty() {
            true => String::new(),
            false => format!("{verb} element inet {table} {ASLEEP} {{ {} }}\n", list(&ports)),
        };
        line("add", to - from) + &line("delete", from - to)
    }

    /// Asks for the ports that are asleep.
    pub(crate) fn question_asleep(&self) -> String {
        format!("list set inet {} {ASLEEP}\n", self.table)
    }

    /// Asks for one table each. Asked for both at once, `nft` 1.0.6 finds only the last.
    pub(crate) fn questions(&self) -> [String; 2] {
        ["inet", "bridge"].map(|family| format!("list table {family} {}\n", self.table))
    }
}

impl Door {
    /// The set and the chains. The priority is just above that of the engine's own rules for published ports: whichever
    /// says first where a connection goes has said it for all of it.
    fn chains(self, bridge: &str, asleep: &BTreeSet<u16>) -> String {
        let Self { port, published } = self;
        let to_us = match published {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "meta nfproto ipv4 fib daddr type local".to_owned(),
            IpAddr::V4(address) => format!("ip daddr {address}"),
            IpAddr::V6(address) if address.is_unspecified() => "fib daddr type local".to_owned(),
            IpAddr::V6(address) => format!("ip6 daddr {address}"),
        };
        let elements = match asleep.is_empty() {
            true => String::new(),
            false => format!("\n        elements = {{ {} }}", list(asleep)),
        };
        format!(
            r#"    set {ASLEEP} {{
        type inet_service{elements}
    }}
    chain arriving_asleep {{
        type nat hook prerouting priority -101; policy accept;
        iifname "{bridge}" accept
        {to_us} tcp dport @{ASLEEP} counter redirect to :{port}
    }}
    chain local_asleep {{
        type nat hook output priority -101; policy accept;
        {to_us} tcp dport @{ASLEEP} counter redirect to :{port}
    }}
    chain door {{
        type filter hook input priority -10; policy accept;
        tcp dport {port} ct status dnat accept
        tcp dport {port} counter reject with tcp reset
    }}
"#
        )
    }
}

impl Frames {
    fn rules(self, bridge: &str, subnet: Ipv4Net) -> String {
        match self {
            Self::Named => format!("        meta ibrname \"{bridge}\" counter drop"),
            Self::Addressed => ["ip saddr", "ip daddr", "arp saddr ip", "arp daddr ip"]
                .map(|field| format!("        {field} {subnet} counter drop"))
                .join("\n"),
        }
    }
}

/// How many chains and rules a text or a listing of it has, whichever version of `nft` laid it out.
pub(crate) fn size(text: &str) -> usize {
    text.lines()
        .map(str::trim)
        .filter(|line| {
            line.starts_with("chain ")
                || line.ends_with(" drop")
                || line.ends_with(" accept")
                || line.contains(" jump ")
                || line.contains(" redirect to ")
                || line.ends_with(" reject with tcp reset")
        })
        .count()
}

/// The ports in a listing of the set.
pub(crate) fn elements(listing: &str) -> BTreeSet<u16> {
    let elements = listing.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
    let numbers = elements.map(|(inner, _)| inner.split(',').filter_map(|number| number.trim().parse().ok()));
    numbers.into_iter().flatten().collect()
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// The interfaces of the default routes, from the text of the kernel's route table (`/proc/net/route`).
pub(crate) fn default_routes(table: &str) -> Vec<String> {
    let mut names: Vec<_> = table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            match fields[..] {
                [name, "00000000", _, _, _, _, _, "00000000", ..] => Some(name.to_owned()),
                _ => None,
            }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            table: "spindown".to_owned(),
            bridge: "spindown0".to_owned(),
            gateway: Ipv4Addr::new(10, 9, 0, 1),
            check_in_port: 80,
            subnet: "10.9.0.1/16".parse().unwrap(),
            door: None,
        }
    }

    #[test]
    fn names_that_would_say_more_are_refused() {
        assert!(rules().check().is_ok());
        for table in ["", "a b", "a;", "a{", "0a", "-a", "a\nb", "a\"", "ä"] {
            assert!(Rules { table: table.to_owned(), ..rules() }.check().is_err(), "{table:?}");
        }
        for bridge in ["", "br*", "a\"b", "a b", "sixteencharacter", "a/b"] {
            assert!(Rules { bridge: bridge.to_owned(), ..rules() }.check().is_err(), "{bridge:?}");
        }
        assert!(Rules { gateway: Ipv4Addr::new(10, 8, 0, 1), ..rules() }.check().is_err());
    }

    #[test]
    fn the_text_carries_every_parameter() {
        let text = rules().text(&[], Frames::Addressed, &BTreeSet::new());
        for part in [
            "table inet spindown {",
            "table bridge spindown {",
            "iifname != \"spindown0\" accept",
            "oifname \"spindown0\" counter drop",
            "ip saddr != 10.9.0.0/16 counter drop",
            "ip daddr 10.9.0.1 tcp dport 80 jump check_in",
            "meta oifkind \"bridge\" counter drop",
            "arp daddr ip 10.9.0.0/16 counter drop",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.starts_with("add table inet spindown\ndelete table inet spindown\n"));
    }

    #[test]
    fn bridges_that_lead_outside_stay_reachable() {
        let text = |uplinks: &[&str]| {
            let uplinks = uplinks.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>();
            rules().text(&uplinks, Frames::Named, &BTreeSet::new())
        };
        assert!(text(&["br0", "br1"]).contains("meta oifkind \"bridge\" oifname != { \"br0\", \"br1\" } counter drop"));
        // Neither our own bridge nor what is no plain name.
        assert!(text(&["spindown0", "a\"b"]).contains("meta oifkind \"bridge\" counter drop"));
        assert!(text(&[]).contains("meta ibrname \"spindown0\" counter drop"));
    }

    #[test]
    fn chains_and_rules_are_counted() {
        assert_eq!(size(&rules().text(&[], Frames::Named, &BTreeSet::new())), 5 + (6 + 4 + 4 + 5 + 1));
        let door = Some(Door { port: 19_990, published: Ipv4Addr::UNSPECIFIED.into() });
        let with_door = Rules { door, ..rules() }.text(&[], Frames::Named, &BTreeSet::new());
        assert_eq!(size(&with_door), 8 + (6 + 4 + 4 + 5 + 1) + (2 + 1 + 2));
        assert_eq!(
            size("\tchain a {\n\t\ttype filter hook input priority -10; policy accept;\n\t\tcounter drop\n\t}"),
            2
        );
    }

    #[test]
    fn the_door_is_for_where_ports_are_published() {
        for (published, expected) in [
            ("0.0.0.0", "meta nfproto ipv4 fib daddr type local tcp dport @asleep counter redirect to :7"),
            ("::", "        fib daddr type local tcp dport @asleep counter redirect to :7"),
            ("127.0.0.1", "        ip daddr 127.0.0.1 tcp dport @asleep counter redirect to :7"),
            ("fd00::1", "        ip6 daddr fd00::1 tcp dport @asleep counter redirect to :7"),
        ] {
            let door = Some(Door { port: 7, published: published.parse().unwrap() });
            let text = Rules { door, ..rules() }.text(&[], Frames::Named, &BTreeSet::from([20_001, 20_000]));
            assert_eq!(text.matches(expected).count(), 2, "{published}\n{text}");
            assert!(text.contains("elements = { 20000, 20001 }"), "{text}");
        }
        assert!(!rules().text(&[], Frames::Named, &BTreeSet::from([20_000])).contains("asleep"));
    }

    #[test]
    fn the_set_is_changed_by_what_is_different() {
        let set = |ports: &[u16]| ports.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(rules().change(&set(&[1, 2]), &set(&[1, 2])), "");
        assert_eq!(
            rules().change(&set(&[1, 2]), &set(&[2, 3, 4])),
            "add element inet spindown asleep { 3, 4 }\ndelete element inet spindown asleep { 1 }\n"
        );
    }

    #[test]
    fn the_set_is_read_as_it_is_listed() {
        let listing = "table inet spindown {\n\tset asleep {\n\t\ttype inet_service\n\t\telements = { 20000, 20001,\n\t\t\t     \
                       20002 }\n\t}\n}\n";
        assert_eq!(elements(listing), BTreeSet::from([20_000, 20_001, 20_002]));
        assert!(elements("table inet spindown {\n\tset asleep {\n\t\ttype inet_service\n\t}\n}\n").is_empty());
    }

    #[test]
    fn default_routes_are_read() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     br0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     br0\t00000000\t010200C0\t0003\t0\t0\t9\t00000000\t0\t0\t0\n\
                     vpn\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(default_routes(table), ["br0"]);
        assert!(default_routes("").is_empty());
    }
}
