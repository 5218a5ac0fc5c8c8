//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/format-torchzip/fuzz/Cargo.toml --example seed
//! ```

use std::io::{Cursor, Read};
use std::path::Path;
use std::{fs, io};

use tensorlift_fixture_kit::{committed, hostile};
use tensorlift_format_torchzip::{Format, detect};
use tensorlift_format_torchzip_fuzz::framing;
use zip::ZipArchive;

/// Longer seeds are slow, and a fuzzer would cut them short.
const MAX_BYTES: usize = 64 << 10;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["pickle", "zip", "archive", "legacy"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    let mut count = 0;
    let mut add = |target: &str, name: &str, bytes: &[u8]| -> io::Result<()> {
        if bytes.len() > MAX_BYTES {
            return Ok(());
        }
        count += 1;
        fs::write(corpus.join(target).join(name), bytes)
    };
    for (name, bytes) in seeds()? {
        match detect(&bytes[..bytes.len().min(1024)]) {
            Some(Format::Zip) => {
                add("zip", &name, &bytes)?;
                if let Some((data, constants, lens)) = parts(&bytes) {
                    let input = framing::input(&data, constants.as_deref(), &lens);
                    add("archive", &name, &input)?;
                    add("pickle", &name, &data)?;
                }
            }
            Some(Format::Pickle) => add("pickle", &name, &bytes)?,
            Some(Format::Legacy | Format::Tar) => add("legacy", &name, &bytes)?,
            _ => {}
        }
        if name.starts_with("archive-") {
            add("archive", &name, &bytes)?;
        }
    }
    println!("{count} seeds in {}", corpus.display());
    Ok(())
}

/// Names and bytes of all files worth starting from.
fn seeds() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = Vec::new();
    for case in hostile::cases() {
        for (number, file) in case.files().into_iter().enumerate() {
            seeds.push((format!("{}-{number}", case.name), file.bytes));
        }
    }
    let mut folders = vec![committed::folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            match path.is_dir() {
                true => folders.push(path),
                false => seeds.push((name.to_owned(), fs::read(&path)?)),
            }
        }
    }
    Ok(seeds)
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
