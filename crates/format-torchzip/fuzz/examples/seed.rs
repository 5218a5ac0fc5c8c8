//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/format-torchzip/fuzz/Cargo.toml --example seed
//! ```

use std::io::{self, Cursor, Read};
use std::path::Path;

use tensorlift_fixture_kit::seeds::{self, Corpus};
use tensorlift_format_torchzip::{Format, detect};
use tensorlift_format_torchzip_fuzz::framing;
use zip::ZipArchive;

const MAX_BYTES: usize = 64 << 10;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut corpus = Corpus::new(folder, MAX_BYTES);
    for (name, bytes) in seeds::all()? {
        match detect(&bytes[..bytes.len().min(1024)]) {
            Some(Format::Zip) => {
                corpus.add("zip", &name, &bytes)?;
                if let Some((data, constants, lens)) = parts(&bytes) {
                    let input = framing::input(&data, constants.as_deref(), &lens);
                    corpus.add("archive", &name, &input)?;
                    corpus.add("pickle", &name, &data)?;
                }
            }
            Some(Format::Pickle) => corpus.add("pickle", &name, &bytes)?,
            Some(Format::Legacy | Format::Tar) => corpus.add("legacy", &name, &bytes)?,
            _ => {}
        }
        if name.starts_with("archive-") {
            corpus.add("archive", &name, &bytes)?;
        }
    }
    corpus.report();
    Ok(())
}

/// The pickles of an archive and the lengths of the records under the first numbers.
fn parts(bytes: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>, Vec<u64>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let names: Vec<String> = archive
        .file_names()
        .flatten()
        .map(|name| name.into_owned())
        .collect();
    let mut read = |end: &str| {
        let name = names.iter().find(|name| name.ends_with(end))?;
        let mut bytes = Vec::new();
        let entry = archive.by_name(name).ok()?;
        let mut entry = entry.take(MAX_BYTES as u64 + 1);
        entry.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let data = read("/data.pkl")?;
    let constants = read("/constants.pkl");
    let mut len = |key: u32| read(&format!("/data/{key}")).map(|bytes| bytes.len() as u64);
    let lens = (0..).map_while(&mut len).collect();
    Some((data, constants, lens))
}
