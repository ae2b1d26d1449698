//! What keeps connections for sleeping ports from the door: another firewall of the host. Published ports are forwarded,
//! and so never asked for; the door's port is the host's own, and many firewalls close what they do not know of those.

/// The tables of others that let nothing in but what they name, as `nft` calls them: family and name. From its listing of
/// all chains.
pub(super) fn closed(chains: &str, ours: &str) -> Vec<String> {
    let (mut table, mut found) = ("", Vec::new());
    for line in chains.lines().map(str::trim) {
        if let Some(named) = line.strip_prefix("table ") {
            table = named.trim_end_matches([' ', '{']);
        }
        let (family, name) = table.split_once(' ').unwrap_or_default();
        // firewalld ends its chain with a rule that rejects, and keeps the policy `accept`.
        let closes = line.contains(" hook input ") && (line.contains("policy drop") || name == "firewalld");
        if closes && name != ours && ["ip", "ip6", "inet"].contains(&family) {
            found.push(table.to_owned());
        }
    }
    found.dedup();
    found
}

/// Whether a table has a rule about this port: alone, in a range, or perhaps in a set that has a name.
pub(super) fn names(rules: &str, port: u16) -> bool {
    let holds = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    };
    let meant = rules.lines().filter_map(|line| line.split_once(" dport ").map(|(_, rest)| rest));
    meant.into_iter().any(|rest| {
        let ports = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .map_or_else(|| rest.split_whitespace().next().unwrap_or_default(), |(inner, _)| inner);
        ports.starts_with('@') || ports.split(',').map(str::trim).any(holds)
    })
}

/// What is wrong, and what to do.
pub(super) fn advice(place: &str, port: u16) -> String {
    format!(
        "another firewall (nftables table {place:?}) closes ports that it does not know: let TCP port {port} in there, or \
         nobody but the host itself reaches containers that sleep (ufw allow {port}/tcp; firewall-cmd --permanent \
         --add-port={port}/tcp). Only what the door redirects gets in"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_closes_the_host_is_found() {
        let chain = |table: &str, hook: &str, policy: &str| {
            let kind = format!("type filter hook {hook} priority filter; policy {policy};");
            format!("table {table} {{\n\tchain c {{\n\t\t{kind}\n\t}}\n\tchain d {{\n\t}}\n}}\n")
        };
        for (chains, expected) in [
            (chain("ip filter", "input", "drop"), &["ip filter"][..]),
            (chain("ip filter", "input", "accept"), &[]),
            (chain("ip filter", "forward", "drop"), &[]),
            (chain("inet spindown", "input", "drop"), &[]),
            (chain("inet firewalld", "input", "accept"), &["inet firewalld"]),
            (chain("bridge filter", "input", "drop"), &[]),
            (chain("ip6 f", "input", "drop") + &chain("inet g", "input", "drop"), &["ip6 f", "inet g"]),
            (chain("ip f", "output", "drop") + &chain("ip g", "input", "accept"), &[]),
            ("table".to_owned(), &[]),
        ] {
            assert_eq!(closed(&chains, "spindown"), expected, "{chains}");
        }
    }

    #[test]
    fn a_rule_about_the_port_is_found() {
        for (rule, found) in [
            ("meta l4proto tcp tcp dport 19990 counter packets 0 bytes 0 accept", true),
            ("tcp dport { 22, 19990 } accept", true),
            ("tcp dport 19000-20000 accept", true),
            ("tcp dport { 22, 19000-20000 } accept", true),
            ("tcp dport @open accept", true),
            ("tcp dport 199900 accept", false),
            ("tcp dport { 22, 80 } counter packets 19990 bytes 0 accept", false),
            ("tcp sport 19990 accept", false),
            ("counter packets 19990 bytes 0", false),
        ] {
            assert_eq!(names(rule, 19_990), found, "{rule}");
        }
    }
}
