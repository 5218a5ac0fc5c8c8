use std::fmt;
use std::str::FromStr;

use thiserror::Error;

mod cache;
mod expand;

pub use cache::{HubEntry, HubMiss, MissReason, hub_cache};
pub(crate) use cache::{find, find_in, repo_folder};

/// A model on the Hugging Face hub: `org/name`, or a bare `name`, and perhaps `@revision`.
///
/// ```
/// use tensorlift_shard_index::HubName;
///
/// let name: HubName = "org/model@refs/pr/1".parse()?;
/// assert_eq!((name.repo(), name.revision()), ("org/model", "refs/pr/1"));
/// assert_eq!("gpt2".parse::<HubName>()?.revision(), "main");
/// assert!("org/../model".parse::<HubName>().is_err());
/// # Ok::<(), tensorlift_shard_index::HubNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    repo: String,
    revision: String,
}

/// Why a text cannot be the name of a model on the hub.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubNameError {
    /// The part before `@` is not `name` or `org/name`.
    #[error(
        "{0:?} is no hub name: expected \"name\" or \"org/name\" of at most 96 letters, digits, \
         \"-\", \"_\" and \".\" each, without \"--\" or \"..\""
    )]
    Repo(String),
    /// The part after `@` cannot be a branch, tag or commit.
    #[error(
        "{0:?} is no revision: expected a branch, tag or commit, without \"..\", empty \
         components, backslashes, colons or control characters"
    )]
    Revision(String),
}

impl HubName {
    /// The revision if none is named.
    pub const DEFAULT_REVISION: &'static str = "main";

    /// The model: `org/name` or `name`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The branch, tag or commit; [`DEFAULT_REVISION`](Self::DEFAULT_REVISION) if none was named.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The command that fetches it into the cache.
    #[must_use]
    pub fn fetch_command(&self) -> String {
        let mut command = format!("hf download {}", self.repo);
        if self.revision != Self::DEFAULT_REVISION {
            command.push_str(" --revision ");
            command.push_str(&shell_word(&self.revision));
        }
        command
    }
}

impl FromStr for HubName {
    type Err = HubNameError;

    fn from_str(text: &str) -> Result<Self, HubNameError> {
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, revision),
            None => (text, Self::DEFAULT_REVISION),
        };
        if !is_repo(repo) {
            return Err(HubNameError::Repo(repo.to_owned()));
        }
        if !is_revision(revision) {
            return Err(HubNameError::Revision(revision.to_owned()));
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision != Self::DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a text may be intended as a hub name, valid or not: it has only letters that names have,
/// and does not begin as only a path does.
pub(crate) fn looks_like_name(text: &str) -> bool {
    let (repo, revision) = match text.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (text, None),
    };
    let components = repo.split('/').count();
    let letters = |component: &str| {
        let first = component.as_bytes().first();
        first.is_some_and(|first| is_word(*first)) && component.bytes().all(is_letter)
    };
    match revision {
        None => components <= 2 && repo.split('/').all(letters),
        // A text with a revision is unlikely to be a path.
        Some(_) => components <= 3 && repo.split('/').next().is_some_and(letters),
    }
}

/// The rules of `huggingface_hub`'s `validate_repo_id`.
fn is_repo(repo: &str) -> bool {
    let named = |component: &str| {
        let bytes = component.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return false;
        };
        let bounded = is_word(*first) && is_word(*last) && bytes.len() <= 96;
        bounded && component.bytes().all(is_letter)
    };
    repo.split('/').count() <= 2
        && repo.split('/').all(named)
        && !repo.contains("--")
        && !repo.contains("..")
        && !repo.ends_with(".git")
}

/// git's rules for names of branches, as far as they matter for paths.
fn is_revision(revision: &str) -> bool {
    let fits = |component: &str| !component.is_empty() && component != ".";
    revision.split('/').all(fits)
        && !revision.contains("..")
        && !revision.contains(['\\', ':'])
        && !revision.chars().any(char::is_control)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_letter(byte: u8) -> bool {
    is_word(byte) || byte == b'-' || byte == b'.'
}

/// Quoted where a shell needs it, so that the command can be copied.
fn shell_word(text: &str) -> String {
    if text.bytes().all(|byte| is_letter(byte) || byte == b'/') && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_and_checked() {
        for (text, repo, revision) in [
            ("gpt2", "gpt2", "main"),
            ("org/name", "org/name", "main"),
            ("o/n@pr/1", "o/n", "pr/1"),
            ("o/n@v1@2", "o/n", "v1@2"),
            ("Foo-BAR_foo.bar123/x", "Foo-BAR_foo.bar123/x", "main"),
        ] {
            let name: HubName = text.parse().unwrap();
            assert_eq!((name.repo(), name.revision()), (repo, revision));
        }
        let long = "x".repeat(97);
        for text in [
            "", "/", "a/", "/a", "a/b/c", "a--b", "a..b", "../b", "a/..", ".a", "a.", "-a", "a-",
            "a.git", "é", "a b", "a\\b", "C:/a", "@main", &long,
        ] {
            assert!(
                matches!(text.parse::<HubName>(), Err(HubNameError::Repo(_))),
                "{text:?}"
            );
        }
        for revision in [
            "", "..", "../..", "a/../b", "/a", "a/", "a//b", ".", "a\\b", "C:", "a\0",
        ] {
            let text = format!("o/n@{revision}");
            assert!(
                matches!(text.parse::<HubName>(), Err(HubNameError::Revision(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        let command = |text: &str| text.parse::<HubName>().unwrap().fetch_command();
        assert_eq!(command("o/n"), "hf download o/n");
        assert_eq!(command("n@pr/1"), "hf download n --revision pr/1");
        assert_eq!(command("n@a;b'c"), r"hf download n --revision 'a;b'\''c'");
    }
}
