//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/shard-index/fuzz/Cargo.toml --example seed
//! ```

use std::io;
use std::path::Path;

use tensorlift_fixture_kit::seeds::{self, Corpus};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut corpus = Corpus::new(folder, 16 << 10);
    for (name, bytes) in seeds::all()? {
        let is_finding = name.starts_with("index-") && name.ends_with(".bin");
        if name.ends_with(".json") || is_finding {
            corpus.add("index", &name, &bytes)?;
        }
    }
    corpus.report();
    Ok(())
}
