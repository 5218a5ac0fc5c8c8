//! The checkpoints on disk: written once, kept for the next run, within a budget.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tensorlift_bench_protocol::Checksum;
use tensorlift_fixture_kit::CheckpointSpec;

use crate::Result;
use crate::definition::Case;

/// A folder of checkpoints, of which the oldest go where the budget does not suffice.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    budget: u64,
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    /// What engines open: a file, or a folder of shards.
    pub(crate) path: PathBuf,
    /// The files, index aside.
    pub(crate) files: Vec<PathBuf>,
    /// What every engine must find.
    pub(crate) expected: Checksum,
}

/// The description beside the files, written last.
#[derive(Serialize, Deserialize)]
struct Stamp {
    recipe: String,
    /// Relative to the folder of the checkpoint; empty for the folder itself.
    path: PathBuf,
    files: Vec<PathBuf>,
    expected: Checksum,
}

const STAMP: &str = "bench.json";
/// Which of the checksums that there have been: stamps with another one are of no use.
const SUM: u32 = 2;

impl Store {
    /// The folder, created if needed, with room for this many bytes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf, budget: u64) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, budget })
    }

    /// The checkpoint of a case, written if it is not there yet.
    pub(crate) fn checkpoint(&self, case: &Case) -> Result<Checkpoint> {
        let spec = case.spec();
        let recipe = format!(
            "{:?} {:?} in {}, sum {SUM}",
            case.recipe, spec.format, spec.shards
        );
        let folder = self.folder.join(case.checkpoint_name().replace('/', "-"));
        if let Some(stamp) = read_stamp(&folder).filter(|stamp| stamp.recipe == recipe) {
            return Ok(stamp.at(&folder));
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        self.make_room(spec.total_bytes())?;
        println!("writing {}", folder.display());
        let written = spec.write(&folder)?;
        for file in &written.files {
            // What is not on the disk yet cannot leave the page cache either.
            fs::File::open(file)?.sync_all()?;
        }
        let relative = |path: &Path| {
            Ok::<_, std::path::StripPrefixError>(path.strip_prefix(&folder)?.to_owned())
        };
        let stamp = Stamp {
            recipe,
            path: relative(&written.path)?,
            files: written
                .files
                .iter()
                .map(|path| relative(path))
                .collect::<std::result::Result<_, _>>()?,
            expected: expected(&spec),
        };
        fs::write(folder.join(STAMP), serde_json::to_vec(&stamp)?)?;
        Ok(stamp.at(&folder))
    }

    /// Removes the oldest checkpoints until this many bytes fit into the budget.
    fn make_room(&self, bytes: u64) -> Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Only what bears our stamp is ours to remove.
            if let Ok(metadata) = fs::metadata(path.join(STAMP)) {
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push((written, size(&path)?, path));
            }
        }
        kept.sort();
        let mut used: u64 = kept.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in kept {
            if used + bytes <= self.budget {
                break;
            }
            fs::remove_dir_all(path)?;
            used -= size;
        }
        if used + bytes > self.budget {
            let (budget, bytes) = (self.budget, bytes);
            return Err(
                format!("{bytes} bytes do not fit into the {budget} that may be used").into(),
            );
        }
        Ok(())
    }
}

impl Stamp {
    fn at(self, folder: &Path) -> Checkpoint {
        Checkpoint {
            path: folder.join(self.path),
            files: self.files.iter().map(|file| folder.join(file)).collect(),
            expected: self.expected,
        }
    }
}

fn read_stamp(folder: &Path) -> Option<Stamp> {
    let bytes = fs::read(folder.join(STAMP)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn expected(spec: &CheckpointSpec) -> Checksum {
    let mut checksum = Checksum::default();
    for (position, tensor) in spec.tensors.iter().enumerate() {
        checksum.tensor(&tensor.name, &spec.tensor_bytes(position));
    }
    checksum
}

fn size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Cache, FileFormat};
    use crate::recipe::Recipe;

    fn case(group: &str, mebibytes: u64) -> Case {
        Case {
            group: group.into(),
            recipe: Recipe::Large { mebibytes },
            format: FileFormat::Safetensors,
            shards: 1,
            cache: Cache::Warm,
            rounds: 1,
            series: None,
            engines: Vec::new(),
            without: Vec::new(),
        }
    }

    #[test]
    fn a_checkpoint_is_written_once_and_the_oldest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned(), 5 << 20).unwrap();
        let first = store.checkpoint(&case("first", 2)).unwrap();
        assert_eq!(first.expected.bytes, 2 << 20);
        let written = fs::metadata(&first.path).unwrap().modified().unwrap();
        let again = store.checkpoint(&case("first", 2)).unwrap();
        assert_eq!(
            fs::metadata(&again.path).unwrap().modified().unwrap(),
            written
        );
        assert_eq!(again.expected, first.expected);

        let second = store.checkpoint(&case("second", 2)).unwrap();
        assert!(first.path.exists());
        store.checkpoint(&case("third", 2)).unwrap();
        assert!(!first.path.exists());
        assert!(second.path.exists());
        assert!(store.checkpoint(&case("fourth", 8)).is_err());
    }

    #[test]
    fn another_recipe_of_the_same_name_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned(), 1 << 30).unwrap();
        let one = store.checkpoint(&case("same", 1)).unwrap();
        let other = store.checkpoint(&case("same", 2)).unwrap();
        assert_eq!(one.path, other.path);
        assert_ne!(one.expected, other.expected);
    }
}
