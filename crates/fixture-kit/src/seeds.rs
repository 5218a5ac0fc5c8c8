//! Seeds for fuzzers: the hostile files, the committed checkpoints and past findings.

use std::path::PathBuf;
use std::{fs, io};

use crate::{committed, hostile};

/// The corpus of a fuzz crate: a folder with one folder for each target.
#[derive(Debug)]
pub struct Corpus {
    folder: PathBuf,
    most_bytes: usize,
    count: usize,
}

impl Corpus {
    /// A corpus of seeds up to this size: longer ones are slow, and a fuzzer would cut them short.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, most_bytes: usize) -> Self {
        Self {
            folder: folder.into(),
            most_bytes,
            count: 0,
        }
    }

    /// Writes a seed for a target, unless it is too long.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.most_bytes {
            return Ok(());
        }
        self.count += 1;
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    }

    /// Says on standard output how many seeds there are.
    pub fn report(&self) {
        println!("{} seeds in {}", self.count, self.folder.display());
    }
}

/// Names and bytes of all files worth starting from.
///
/// # Errors
/// If a committed file cannot be read.
pub fn all() -> io::Result<Vec<(String, Vec<u8>)>> {
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
