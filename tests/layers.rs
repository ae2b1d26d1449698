//! Who may import whom, read from the sources: the layers of docs/ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One file of the crate: its layer (the first part of its path), its path, its text without tests and comments.
struct Source {
    layer: String,
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&root).unwrap().to_owned();
            let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            found.push(Source {
                layer: first.trim_end_matches(".rs").to_owned(),
                path: relative,
                text: lines.collect::<Vec<_>>().join("\n"),
            });
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// The modules of ours that a text names after `crate::`, grouped imports included.
fn imports(text: &str) -> BTreeSet<String> {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for rest in flat.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item_begins = true;
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item_begins = true,
                ' ' => {}
                _ if item_begins && depth == 0 => {
                    found.insert(word(&group[at..]));
                    item_begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// What each layer may import of ours; assembly (`lib`, `main`, `listener`, `config`) is not listed.
const MAY: [(&str, &[&str]); 15] = [
    ("step", &[]),
    ("model", &["model"]),
    ("policy", &["model", "policy"]),
    ("clock", &["model"]),
    ("meter", &["model", "clock"]),
    ("engine", &["model", "engine", "clock", "meter"]),
    ("store", &["model", "store", "clock", "meter", "socket"]),
    ("firewall", &["model", "firewall"]),
    ("sight", &["model", "sight"]),
    ("socket", &[]),
    ("carrier", &["model", "socket", "carrier"]),
    (
        "service",
        &["model", "policy", "clock", "step", "engine", "store", "firewall", "carrier", "sight", "meter", "service"],
    ),
    ("reconcile", &["model", "service", "meter", "reconcile"]),
    ("wake", &["model", "policy", "step", "carrier", "meter", "service", "wake"]),
    ("http", &["model", "policy", "service", "meter", "http"]),
];

#[test]
fn each_layer_imports_only_what_it_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, may)) = MAY.iter().find(|(layer, _)| *layer == source.layer) else { continue };
        for import in imports(&source.text) {
            // A type of the crate's own root, or a macro, is no layer.
            let is_layer = MAY.iter().any(|(layer, _)| *layer == import) || ["config", "listener"].contains(&&*import);
            if is_layer && !may.contains(&&*import) {
                wrong.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_library_of_the_outside_is_named_in_one_place() {
    let homes: [(&str, &[&str]); 9] = [
        ("bollard::", &["engine/docker.rs", "engine/docker/"]),
        ("redis::", &["store/redis.rs", "store/redis/", "cli/"]),
        ("redb::", &["store/embedded.rs", "store/embedded/"]),
        ("croner::", &["model/timetable.rs"]),
        ("chrono::", &["model/timetable.rs"]),
        ("chrono_tz::", &["model/timetable.rs"]),
        ("netlink_packet_netfilter::", &["firewall/nflog.rs"]),
        ("utoipa::", &["http/"]),
        ("rocket::", &["http.rs", "http/", "lib.rs", "listener.rs", "config.rs", "cli/serve.rs"]),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.to_str().unwrap();
        for (library, homes) in homes {
            let named = source.text.match_indices(library).any(|(at, _)| {
                let before = source.text[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            });
            if named && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("{path} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_binary_names_concrete_adapters() {
    let adapters = ["docker::Docker", "sim::Sim", "embedded::Embedded", "redis::Redis", "nft::Nft", "linux::Linux"];
    for source in sources().into_iter().filter(|s| !["main", "cli"].contains(&&*s.layer)) {
        for adapter in adapters {
            assert!(!source.text.contains(adapter), "{} names {adapter}", source.path.display());
        }
    }
}

#[test]
fn pure_layers_do_nothing_but_decide() {
    for source in sources().into_iter().filter(|s| ["model", "policy"].contains(&&*s.layer)) {
        for impure in ["async fn", "tracing", "std::fs", "std::net::Tcp", "tokio", "rand::", "::now("] {
            assert!(!source.text.contains(impure), "{} has {impure}", source.path.display());
        }
    }
}

#[test]
fn imports_are_found_in_groups() {
    let text = "use crate::{\n model::{A, B},\n policy::idle,\n};\nuse crate::store::X;\nlet y = crate::clock::Z;";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["clock", "model", "policy", "store"]);
}
