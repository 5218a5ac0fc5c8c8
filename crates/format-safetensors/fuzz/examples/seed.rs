//! Fills `corpus/` from the hostile kit, the committed checkpoints and past findings.
//!
//! ```console
//! cargo run --release --manifest-path crates/format-safetensors/fuzz/Cargo.toml --example seed
//! ```

use std::path::Path;
use std::{fs, io};

use tensorlift_fixture_kit::{committed, hostile};
use tensorlift_format_safetensors::is_safetensors;

/// Longer seeds are slow, and a fuzzer would cut them short.
const MAX_BYTES: usize = 16 << 10;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/header");
    fs::create_dir_all(&corpus)?;
    let mut count = 0;
    let mut add = |name: &str, bytes: &[u8]| -> io::Result<()> {
        if bytes.len() > MAX_BYTES {
            return Ok(());
        }
        count += 1;
        fs::write(corpus.join(name), bytes)
    };
    for (name, bytes) in seeds()? {
        if name.starts_with("header-") {
            add(&name, &bytes)?;
        } else if is_safetensors(&bytes) || name.ends_with(".safetensors") {
            add(&name, &bytes)?;
            if let Some(input) = framed(&bytes) {
                add(&format!("{name}-framed"), &input)?;
            }
        }
    }
    println!("{count} seeds in {}", corpus.display());
    Ok(())
}

/// The header of a file behind the number of bytes that follow it.
fn framed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let (header, tail) = rest.split_at_checked(len)?;
    let mut input = u16::try_from(tail.len()).ok()?.to_le_bytes().to_vec();
    input.extend(header);
    Some(input)
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
