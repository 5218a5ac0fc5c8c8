//! `SHA256SUMS`: lines of a hash and a file name, as `sha256sum` writes and reads them.

use std::path::{Component, Path, PathBuf};

use tensorlift_loader::{Digest, HashAlgorithm};
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use super::{Expected, ExpectedFile};

impl Expected {
    /// What a list of SHA-256 sums says of files in `folder`: a line each of 64 hexadecimal digits,
    /// a space, a space or an asterisk, and the name.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for another line, for a name that leads out of the folder, and for
    /// a list without a line.
    pub fn from_sums(text: &str, folder: &Path) -> Result<Self> {
        let mut expected = Self::new("a list of SHA-256 sums").complete(true);
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() {
                continue;
            }
            let Some((digest, name)) = sum(line) else {
                let found = format!(
                    "line {number}: expected 64 hexadecimal digits, two spaces and a file name"
                );
                return Err(Error::new(ErrorKind::Malformed, found)
                    .with_remedy("write the list with sha256sum"));
            };
            expected.add(&within(folder, name)?, ExpectedFile::whole(None, digest));
        }
        match expected.is_empty() {
            false => Ok(expected),
            true => Err(Error::new(ErrorKind::Malformed, "the list has no line")
                .with_remedy("write the list with sha256sum")),
        }
    }
}

fn sum(line: &str) -> Option<(Digest, &str)> {
    let (digits, name) = line.split_at_checked(64)?;
    let name = name
        .strip_prefix("  ")
        .or_else(|| name.strip_prefix(" *"))?;
    let digest = Digest::from_hex(HashAlgorithm::Sha256, digits)?;
    (!name.is_empty()).then_some((digest, name))
}

/// The path of a file that a list names, which must be in the list's folder.
pub(super) fn within(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let path = Path::new(name);
    if name.is_empty() || name.contains('\0') || !path.components().all(is_plain) {
        let found = format!("expected the name of a file in the folder, found {name:?}");
        return Err(Error::new(ErrorKind::Malformed, found)
            .with_path(folder)
            .with_remedy("take a list that was made for this folder"));
    }
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    Ok(parts.fold(folder.to_owned(), |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_sha256sum_writes_them() {
        let digits = "ab".repeat(32);
        let text = format!("{digits}  a b.bin\n{digits} *./sub/c\n\n");
        let expected = Expected::from_sums(&text, Path::new("/m")).unwrap();
        let files: Vec<&Path> = expected.files().collect();
        assert_eq!(files, [Path::new("/m/a b.bin"), Path::new("/m/sub/c")]);
        for line in [
            digits.clone(),
            format!("{digits} a"),
            format!("{digits}  "),
            format!("{digits}  ../a"),
            format!("{digits}  /a"),
            format!("{}  a", &digits[1..]),
            format!("g{}  a", &digits[1..]),
            "é".repeat(40),
            String::new(),
        ] {
            let refused = Expected::from_sums(&line, Path::new("/m"));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Malformed, "{line}");
        }
    }
}
