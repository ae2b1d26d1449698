//! How properties over long stories are tried.

use proptest::{prelude::ProptestConfig, test_runner::FileFailurePersistence};

/// So many cases, unless `PROPTEST_CASES` says otherwise. What once failed is tried first ever after: its seed is kept
/// beside the test.
pub fn stories(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().unwrap()),
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}
