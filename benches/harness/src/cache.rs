//! The state of the page cache before a run.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use tensorlift_storage::os;

use crate::definition::Cache;

/// The largest share that may be left of a cold file: what others have mapped stays.
const COLD_SHARE: f64 = 0.01;
/// The least share of a warm file.
const WARM_SHARE: f64 = 0.99;

/// Brings the files into a state; `Err` says why it cannot be had.
pub(crate) fn bring_to(cache: Cache, files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        let file = File::open(path)?;
        match cache {
            Cache::Cold => cool(&file)?,
            // It is nowhere but in memory.
            Cache::Tmpfs => {}
            Cache::Warm => warm(file)?,
        }
    }
    Ok(())
}

fn cool(file: &File) -> io::Result<()> {
    os::drop_page_cache(file)?;
    match share(file)? {
        Some(share) if share > COLD_SHARE => Err(io::Error::other(format!(
            "{:.0} % of the file stayed in the page cache",
            share * 100.0
        ))),
        Some(_) => Ok(()),
        None => Err(io::Error::other(
            "this system does not tell what the page cache holds",
        )),
    }
}

fn warm(mut file: File) -> io::Result<()> {
    if share(&file)?.is_some_and(|share| share >= WARM_SHARE) {
        return Ok(());
    }
    let mut buffer = vec![0; 4 << 20];
    while file.read(&mut buffer)? > 0 {}
    match share(&file)? {
        Some(share) if share < WARM_SHARE => {
            Err(io::Error::other("the page cache does not hold the file"))
        }
        _ => Ok(()),
    }
}

/// The share of the whole file that is cached; samples could miss what an engine left.
fn share(file: &File) -> io::Result<Option<f64>> {
    let len = file.metadata()?.len();
    let cached = os::cached_bytes(file, 0, len);
    Ok(cached.map(|bytes| bytes as f64 / len as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_lies_between_samples_counts() {
        use std::os::unix::fs::FileExt;

        const MIB: usize = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        for index in 0..64 {
            file.write_all_at(&vec![1; MIB], (index * MIB) as u64)
                .unwrap();
        }
        file.sync_all().unwrap();
        os::drop_page_cache(&file).unwrap();
        let mut middle = vec![0; MIB / 16];
        for index in 0..64 {
            file.read_exact_at(&mut middle, (index * MIB + MIB / 2) as u64)
                .unwrap();
        }
        // Where the system does not tell, no cold case is run.
        if let Some(share) = share(&file).unwrap() {
            assert!(share > 0.06, "{share}");
        }
    }
}
