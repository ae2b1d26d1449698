//! What the fuzzers found worth keeping, once more: no toolchain but the usual one is needed for it.

use std::{fs, path::Path};

use crate::support::fuzz;

/// Gives every file of a corpus to what its fuzzer does.
fn replay(name: &str, act: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "the corpus of {name} was not found");
    for file in files {
        // Whatever fails is to be found again.
        eprintln!("{}", file.display());
        act(&fs::read(&file).unwrap());
    }
}

#[test]
fn the_corpus_of_check_ins() {
    replay("check_in", fuzz::check_in);
}

#[test]
fn the_corpus_of_creates() {
    replay("create", fuzz::create);
}

#[test]
fn the_corpus_of_durations() {
    replay("duration", fuzz::duration);
}
