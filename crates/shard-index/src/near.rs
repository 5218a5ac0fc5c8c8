use std::fs;
use std::path::{Path, PathBuf};

/// How many names of a folder are compared.
const COMPARED: usize = 10_000;

/// How many are suggested.
const SUGGESTED: usize = 3;

/// The existing part of a path that does not exist.
pub(crate) struct Near {
    /// The deepest folder of the path that exists.
    pub(crate) folder: PathBuf,
    /// Paths in it with names similar to the missing one, the most similar first.
    pub(crate) paths: Vec<PathBuf>,
}

pub(crate) fn near(missing: &Path) -> Near {
    let mut path = missing;
    loop {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // `..` has no file name to compare with.
        if parent.is_dir() || parent == path || parent == Path::new(".") {
            let wanted = path.file_name().map(|name| name.to_string_lossy());
            let paths = wanted.map_or_else(Vec::new, |wanted| similar(parent, &wanted));
            return Near {
                folder: parent.to_owned(),
                paths,
            };
        }
        path = parent;
    }
}

fn similar(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let wanted = wanted.to_lowercase();
    // At most a third of the letters may differ, so that short names do not match everything.
    let tolerance = (wanted.chars().count() / 3).clamp(1, 5);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut similar: Vec<_> = entries
        .take(COMPARED)
        .filter_map(|entry| {
            let name = entry.file_name();
            let lower = name.to_string_lossy().to_lowercase();
            // A letter or two begin too many names.
            let begins = |one: &str, other: &str| one.len() > 2 && other.starts_with(one);
            let distance = match begins(&wanted, &lower) || begins(&lower, &wanted) {
                true => 1,
                false => strsim::osa_distance(&lower, &wanted),
            };
            (distance <= tolerance).then_some((distance, name))
        })
        .collect();
    similar.sort();
    similar.truncate(SUGGESTED);
    let path = |name| match folder == Path::new(".") {
        true => PathBuf::from(name),
        false => folder.join(name),
    };
    similar.into_iter().map(|(_, name)| path(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_and_strangers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model.safetensors", "config.json", "Tiny", "w"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |missing: &str| {
            let near = near(&folder.path().join(missing));
            assert_eq!(near.folder, folder.path());
            let names = near.paths.iter().filter_map(|path| path.file_name());
            names
                .map(|name| name.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("modle.safetensors"), ["model.safetensors"]);
        assert_eq!(names("model"), ["model.safetensors"]);
        assert_eq!(names("tiny/deeper/x"), ["Tiny"]);
        assert!(names("weights").is_empty());
        assert!(names("..").is_empty());
    }
}
