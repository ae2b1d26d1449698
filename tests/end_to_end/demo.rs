//! The demo: what it tells happens, and nothing of it stays.

use std::process::{Command, Stdio};

use crate::support::server::run;

/// What is at the engine, and in the kernel, of the demo's instance.
fn left() -> String {
    let containers = run("docker", &["ps", "-aq", "--filter", "label=spindown.managed=spindown_demo"]);
    let networks = run("docker", &["network", "ls", "-q", "--filter", "name=^spindown_demo$"]);
    let tables = run("nft", &["list", "tables"]);
    let tables: String = tables.lines().filter(|line| line.ends_with(" spindown_demo")).collect();
    format!("{containers}{networks}{tables}")
}

#[test]
fn the_demo_shows_what_it_tells_and_leaves_nothing() {
    let output = Command::new("timeout")
        .args(["120", "scripts/demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SPINDOWN_BINARY", env!("CARGO_BIN_EXE_spindown"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{told}\n{errors}", output.status);
    for words in ["it is frozen", "the echo took", "it is stopped", "as it was left: hello", "event:thawed"] {
        assert!(told.contains(words), "{words:?} is missing:\n{told}");
    }
    assert_eq!(left(), "");
}
