//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/format-safetensors/fuzz/Cargo.toml --example seed
//! ```

use std::io;
use std::path::Path;

use tensorlift_fixture_kit::seeds::{self, Corpus};
use tensorlift_format_safetensors::is_safetensors;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut corpus = Corpus::new(folder, 16 << 10);
    for (name, bytes) in seeds::all()? {
        if name.starts_with("header-") {
            corpus.add("header", &name, &bytes)?;
        } else if is_safetensors(&bytes) || name.ends_with(".safetensors") {
            corpus.add("header", &name, &bytes)?;
            if let Some(input) = framed(&bytes) {
                corpus.add("header", &format!("{name}-framed"), &input)?;
            }
        }
    }
    corpus.report();
    Ok(())
}

/// The number of bytes after a file's header, and then the header.
fn framed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let (header, tail) = rest.split_at_checked(len)?;
    let mut input = u16::try_from(tail.len()).ok()?.to_le_bytes().to_vec();
    input.extend(header);
    Some(input)
}
