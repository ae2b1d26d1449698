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
//!
//! With a door there are also `to_frozen` and `knock`: what goes to an address in the set `frozen` and begins a connection
//! or carries something is logged to a group that `nflog` listens to. The kernel drops it if nobody does. They judge nothing.

use std::{
    collections::BTreeSet,
    fmt::{Display, Write},
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
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
/// The name of the set of addresses whose containers are frozen.
const FROZEN: &str = "frozen";

/// How many beginnings of connections with one frozen container are told per second, and in a burst. One is enough to
/// wake it; a flood of them is not to keep us busy. Each container has its own, so that a flood at one hides nothing of
/// what comes for the others.
const BEGINNINGS: (u32, u32) = (100, 200);
/// How many packets with data from one client to one frozen container. Beginnings do not count among them: whoever
/// scans hides nobody's data. A connection has little room for more than that before the container reads; datagrams and
/// forgeries have. What the set has no room for is told, for it is better to be told too much than too little.
const DATA: (u32, u32) = (100, 200);

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
    /// The port on which it listens, on every address. What comes for frozen containers is logged to the group of this
    /// number (NFLOG): it is no other server's on this machine, either.
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

/// What the kernel and the command `nft` can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Able {
    /// How frames are told.
    pub(crate) frames: Frames,
    /// Whether packets can be logged to a group.
    pub(crate) log: bool,
}

/// The elements of the sets that are kept as others say. They change all the time, and are compared by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    /// The ports that are asleep.
    pub(crate) asleep: BTreeSet<u16>,
    /// The addresses whose containers are frozen.
    pub(crate) frozen: BTreeSet<Ipv4Addr>,
}

impl Able {
    /// All that can be wished for.
    pub(crate) const ALL: Self = Self { frames: Frames::Named, log: true };

    /// What every kernel can.
    pub(crate) const LEAST: Self = Self { frames: Frames::Addressed, log: false };

    /// This and whatever asks for less, the best first. Isolation does not hang on the log.
    pub(crate) fn and_less(self) -> Vec<Self> {
        let frames = |able: &Self| self.frames == Frames::Named || able.frames == Frames::Addressed;
        [true, false]
            .into_iter()
            .flat_map(|log| [Frames::Named, Frames::Addressed].map(|frames| Self { frames, log }))
            .filter(|able| frames(able) && (self.log || !able.log))
            .collect()
    }
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
    pub(crate) fn text(&self, uplinks: &[String], able: Able, sets: &Sets) -> String {
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
            between = able.frames.rules(bridge, subnet),
            door = door.map_or_else(String::new, |door| door.text(bridge, able, sets)),
        );
        text
    }

    /// Takes both tables away, whether they are there or not.
    pub(crate) fn removal(&self) -> String {
        let table = &self.table;
        ["inet", "bridge"].map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n")).concat()
    }

    /// Makes the sets what they should be, from what they are. Nothing to do is an empty text.
    pub(crate) fn change(&self, from: &Sets, to: &Sets) -> String {
        self.difference(ASLEEP, &from.asleep, &to.asleep) + &self.difference(FROZEN, &from.frozen, &to.frozen)
    }

    fn difference<T: Copy + Ord + Display>(&self, set: &str, from: &BTreeSet<T>, to: &BTreeSet<T>) -> String {
        let table = &self.table;
        let line = |verb: &str, elements: BTreeSet<T>| match elements.is_empty() {
            true => String::new(),
            false => format!("{verb} element inet {table} {set} {{ {} }}\n", list(&elements)),
        };
        line("add", to - from) + &line("delete", from - to)
    }

    /// Asks for the ports that are asleep, and for the addresses that are frozen.
    pub(crate) fn questions_of_sets(&self) -> [String; 2] {
        [ASLEEP, FROZEN].map(|set| format!("list set inet {} {set}\n", self.table))
    }

    /// Asks for one table each. Asked for both at once, `nft` 1.0.6 finds only the last.
    pub(crate) fn questions(&self) -> [String; 2] {
        ["inet", "bridge"].map(|family| format!("list table {family} {}\n", self.table))
    }
}

impl Door {
    /// What the table has because of the door. The set of what is frozen is there even if nothing can be logged, so that
    /// it is kept in one way.
    fn text(self, bridge: &str, able: Able, sets: &Sets) -> String {
        let knocks = if able.log { self.knocks(bridge) } else { String::new() };
        set(ASLEEP, "inet_service", &sets.asleep)
            + &set(FROZEN, "ipv4_addr", &sets.frozen)
            + &self.chains(bridge)
            + &knocks
    }

    /// The chains that lead to the door. The priority is just above that of the engine's own rules for published ports:
    /// whichever says first where a connection goes has said it for all of it.
    fn chains(self, bridge: &str) -> String {
        let Self { port, published } = self;
        let to_us = match published {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "meta nfproto ipv4 fib daddr type local".to_owned(),
            IpAddr::V4(address) => format!("ip daddr {address}"),
            IpAddr::V6(address) if address.is_unspecified() => "fib daddr type local".to_owned(),
            IpAddr::V6(address) => format!("ip6 daddr {address}"),
        };
        format!(
            r#"    chain arriving_asleep {{
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

    /// The chains that tell what comes for frozen containers. After routing, a packet carries the container's address,
    /// whether it came through a published port or not; and before sources are rewritten (100), still the client's.
    ///
    /// Segments without data are told apart by their length: IP's, if it has no options, and TCP's. `ip length . tcp doff`
    /// as one set would do for all of them, but `nft` 1.0.6 ends abruptly when it lists that. So they are beginnings that
    /// are too many, and resets. What is rare is left to `nflog`, which looks at each packet again: IP options, resets
    /// with words in them, fragments (connection tracking puts them together before).
    fn knocks(self, bridge: &str) -> String {
        let group = self.port;
        let ((beginnings, first), (data, burst)) = (BEGINNINGS, DATA);
        // Those with timestamps, which nearly all have, come first.
        let bare: String = [8, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
            .map(|words: u16| format!("        tcp doff {words} ip length {} accept\n", 20 + 4 * words))
            .concat();
        format!(
            r#"    set knock_beginnings {{
        type ipv4_addr
        size 65536
        flags dynamic,timeout
        timeout 1m
    }}
    set knock_data {{
        type ipv4_addr . ipv4_addr
        size 65536
        flags dynamic,timeout
        timeout 1m
    }}
    chain to_frozen {{
        type filter hook postrouting priority 0; policy accept;
        oifname "{bridge}" ip daddr @{FROZEN} jump knock
    }}
    chain knock {{
        meta l4proto != {{ tcp, udp }} accept
        tcp flags & (syn | ack) == syn update @knock_beginnings {{ ip daddr limit rate {beginnings}/second burst {first} packets }} log group {group} accept
        udp length 8 accept
{bare}        update @knock_data {{ ip saddr . ip daddr limit rate over {data}/second burst {burst} packets }} accept
        log group {group}
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
                || line.contains("log group ")
                || line.ends_with(" reject with tcp reset")
        })
        .count()
}

/// The elements in a listing of a set.
pub(crate) fn elements<T: Ord + FromStr>(listing: &str) -> BTreeSet<T> {
    let elements = listing.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
    let elements = elements.map(|(inner, _)| inner.split(',').filter_map(|element| element.trim().parse().ok()));
    elements.into_iter().flatten().collect()
}

/// The text of a set.
fn set<T: Display>(name: &str, kind: &str, elements: &BTreeSet<T>) -> String {
    let elements = match elements.is_empty() {
        true => String::new(),
        false => format!("        elements = {{ {} }}\n", list(elements)),
    };
    format!("    set {name} {{\n        type {kind}\n{elements}    }}\n")
}

fn list<T: Display>(elements: &BTreeSet<T>) -> String {
    elements.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
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

    fn asleep(ports: &[u16]) -> Sets {
        Sets { asleep: ports.iter().copied().collect(), ..Sets::default() }
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
        let text = rules().text(&[], Able { frames: Frames::Addressed, log: true }, &Sets::default());
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
            rules().text(&uplinks, Able::ALL, &Sets::default())
        };
        assert!(text(&["br0", "br1"]).contains("meta oifkind \"bridge\" oifname != { \"br0\", \"br1\" } counter drop"));
        // Neither our own bridge nor what is no plain name.
        assert!(text(&["spindown0", "a\"b"]).contains("meta oifkind \"bridge\" counter drop"));
        assert!(text(&[]).contains("meta ibrname \"spindown0\" counter drop"));
    }

    #[test]
    fn chains_and_rules_are_counted() {
        assert_eq!(size(&rules().text(&[], Able::ALL, &Sets::default())), 5 + (6 + 4 + 4 + 5 + 1));
        let door = Some(Door { port: 19_990, published: Ipv4Addr::UNSPECIFIED.into() });
        let with_door = Rules { door, ..rules() }.text(&[], Able::ALL, &Sets::default());
        assert_eq!(size(&with_door), 10 + (6 + 4 + 4 + 5 + 1) + (2 + 1 + 2) + (1 + 16));
        let mute = Able { log: false, ..Able::ALL };
        let mute = Rules { door, ..rules() }.text(&[], mute, &Sets::default());
        assert_eq!(size(&mute), 8 + (6 + 4 + 4 + 5 + 1) + (2 + 1 + 2));
        assert_eq!(
            size("\tchain a {\n\t\ttype filter hook input priority -10; policy accept;\n\t\tcounter drop\n\t}"),
            2
        );
    }

    #[test]
    fn less_is_asked_for_where_less_is_possible() {
        let able = |frames, log| Able { frames, log };
        let (named, addressed) = (Frames::Named, Frames::Addressed);
        let all = [able(named, true), able(addressed, true), able(named, false), able(addressed, false)];
        assert_eq!(Able::ALL.and_less(), all);
        assert_eq!(able(addressed, true).and_less(), [able(addressed, true), able(addressed, false)]);
        assert_eq!(able(named, false).and_less(), [able(named, false), able(addressed, false)]);
        assert_eq!(able(addressed, false).and_less(), [able(addressed, false)]);
    }

    #[test]
    fn what_is_frozen_is_logged_to_the_group_of_the_doors_number() {
        let door = Some(Door { port: 19_990, published: Ipv4Addr::UNSPECIFIED.into() });
        let sets = Sets { frozen: BTreeSet::from([Ipv4Addr::new(10, 9, 0, 2)]), ..Sets::default() };
        let text = |able| Rules { door, ..rules() }.text(&[], able, &sets);
        assert_eq!(text(Able::ALL).matches("log group 19990").count(), 2);
        assert!(text(Able::ALL).contains("tcp doff 8 ip length 52 accept"), "{}", text(Able::ALL));
        let mute = text(Able { log: false, ..Able::ALL });
        assert!(!mute.contains("log group") && mute.contains("elements = { 10.9.0.2 }"), "{mute}");
        assert!(!rules().text(&[], Able::ALL, &sets).contains("frozen"));
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
            let text = Rules { door, ..rules() }.text(&[], Able::ALL, &asleep(&[20_001, 20_000]));
            assert_eq!(text.matches(expected).count(), 2, "{published}\n{text}");
            assert!(text.contains("elements = { 20000, 20001 }"), "{text}");
        }
        assert!(!rules().text(&[], Able::ALL, &asleep(&[20_000])).contains("asleep"));
    }

    #[test]
    fn the_set_is_changed_by_what_is_different() {
        let frozen = |last: &[u8]| last.iter().map(|last| Ipv4Addr::new(10, 9, 0, *last)).collect();
        assert_eq!(rules().change(&asleep(&[1, 2]), &asleep(&[1, 2])), "");
        assert_eq!(
            rules().change(&asleep(&[1, 2]), &asleep(&[2, 3, 4])),
            "add element inet spindown asleep { 3, 4 }\ndelete element inet spindown asleep { 1 }\n"
        );
        assert_eq!(
            rules().change(
                &Sets { frozen: frozen(&[2, 3]), ..asleep(&[1]) },
                &Sets { frozen: frozen(&[3, 4, 5]), ..asleep(&[2]) }
            ),
            "add element inet spindown asleep { 2 }\ndelete element inet spindown asleep { 1 }\n\
             add element inet spindown frozen { 10.9.0.4, 10.9.0.5 }\ndelete element inet spindown frozen { 10.9.0.2 }\n"
        );
    }

    #[test]
    fn the_set_is_read_as_it_is_listed() {
        let listing = "table inet spindown {\n\tset asleep {\n\t\ttype inet_service\n\t\telements = { 20000, 20001,\n\t\t\t     \
                       20002 }\n\t}\n}\n";
        assert_eq!(elements(listing), BTreeSet::from([20_000, 20_001, 20_002]));
        let empty = "table inet spindown {\n\tset asleep {\n\t\ttype inet_service\n\t}\n}\n";
        assert!(elements::<u16>(empty).is_empty());
        let listing = "\tset frozen {\n\t\ttype ipv4_addr\n\t\telements = { 10.9.0.2, 10.9.0.3 }\n\t}\n";
        assert_eq!(elements(listing), BTreeSet::from([Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)]));
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
