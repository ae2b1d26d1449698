//! What Spindown adds to the engine, and what it saves: measured side by side in one run and printed as one table. It
//! asserts nothing. `make bench` runs all of it; `make bench ONLY=create` what has that in its name.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![expect(clippy::disallowed_methods, reason = "it measures how long the real thing takes")]

mod check_in;
mod create;
mod door;
mod frozen;
mod many;
mod outside;
mod rival;
mod sight;
mod sweep;
mod table;
mod traffic;

/// What the tests stand on, as far as it is needed here.
#[path = "../tests/support"]
#[allow(dead_code, reason = "the tests need more of it")]
mod support {
    pub mod block;
    pub mod brew;
    pub mod document;
    pub mod engine;
    pub mod memory;
    pub mod server;
}

use futures::future::LocalBoxFuture;
use table::Row;

/// One group of measurements.
type Group = (&'static str, fn() -> LocalBoxFuture<'static, Vec<Row>>);

const GROUPS: [Group; 8] = [
    ("sweep", || Box::pin(sweep::measure())),
    ("check-in", || Box::pin(check_in::measure())),
    ("create", || Box::pin(create::measure())),
    ("at-once", || Box::pin(create::measure_at_once())),
    ("door", || Box::pin(door::measure())),
    ("frozen", || Box::pin(frozen::measure())),
    ("many", || Box::pin(many::measure())),
    ("sight", || Box::pin(sight::measure())),
];

#[tokio::main]
async fn main() {
    if std::env::args().any(|word| word == outside::VERB) {
        return outside::obey().await;
    }
    // Cargo adds options of its own.
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let mut rows = Vec::new();
    for (name, measure) in GROUPS.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("measuring: {name}");
        tokio::select! {
            group = measure() => rows.extend(group),
            // What was made is removed as this is left.
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: removing what was made");
                break;
            }
        }
    }
    table::print(&rows);
}
