//! Checkpoints as candle sees them.

mod embeddings;
mod weights;

use std::path::PathBuf;

/// A committed checkpoint.
fn fixture(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
    PathBuf::from(fixtures).join(name)
}
