//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/shard-index/fuzz/Cargo.toml --example seed
//! ```

use std::path::Path;
use std::{fs, io};

use tensorlift_fixture_kit::{committed, hostile};

/// Longer seeds are slow, and a fuzzer would cut them short.
const MAX_BYTES: usize = 16 << 10;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/index");
    fs::create_dir_all(&corpus)?;
    let mut count = 0;
    for (name, bytes) in seeds()? {
        let is_finding = name.starts_with("index-") && name.ends_with(".bin");
        let is_seed = name.ends_with(".json") || is_finding;
        if is_seed && bytes.len() <= MAX_BYTES {
            count += 1;
            fs::write(corpus.join(name), bytes)?;
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
            let path = file.path.replace('/', "-");
            seeds.push((format!("{}-{number}-{path}", case.name), file.bytes));
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
