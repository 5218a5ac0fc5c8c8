//! What a reader lists, and whether two of them list the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Result;

/// Tensors, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) tensors: Vec<Tensor>,
    /// Who read them, where the listing says so.
    pub(super) by: String,
    /// Whether there may be more.
    partial: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    bytes: u64,
    sha256: Option<String>,
}

/// The first line of a listing by PyTorch.
#[derive(Deserialize)]
struct Head {
    by: String,
    partial: bool,
}

impl Listing {
    /// Takes one JSON object a line.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut listing = Self::default();
        for line in text.lines() {
            if let Ok(head) = serde_json::from_str::<Head>(line) {
                (listing.by, listing.partial) = (head.by, head.partial);
                continue;
            }
            let tensor = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            listing.tensors.push(tensor);
        }
        Ok(listing)
    }

    /// Compares names, dtypes, shapes and hashes; `Err` names the first difference.
    pub(super) fn compare(&self, expected: &Self) -> Result<()> {
        let by_name = |listing: &Self| {
            let tensors = listing.tensors.iter().cloned();
            let tensors = tensors.map(|tensor| (tensor.name.clone(), tensor));
            tensors.collect::<BTreeMap<String, Tensor>>()
        };
        let (ours, theirs) = (by_name(self), by_name(expected));
        for (name, tensor) in &theirs {
            match ours.get(name) {
                None => return Err(format!("{name} is missing").into()),
                Some(found) if found != tensor => {
                    return Err(format!("expected {tensor:?}, found {found:?}").into());
                }
                Some(_) => {}
            }
        }
        let more = ours.keys().find(|name| !theirs.contains_key(*name));
        match more.filter(|_| !expected.partial) {
            Some(name) => Err(format!("{name} is too much").into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, hash: &str) -> String {
        format!(r#"{{"name":"{name}","dtype":"F32","shape":[2],"bytes":8,"sha256":"{hash}"}}"#)
    }

    fn listing(lines: &[String]) -> Listing {
        Listing::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn equal_listings_are_equal_in_any_order() {
        let one = listing(&[line("a", "1"), line("b", "2")]);
        assert!(
            one.compare(&listing(&[line("b", "2"), line("a", "1")]))
                .is_ok()
        );
    }

    #[test]
    fn differences_are_named() {
        let one = listing(&[line("a", "1"), line("b", "2")]);
        let difference = |lines: &[String]| one.compare(&listing(lines)).unwrap_err().to_string();
        assert!(difference(&[line("a", "1"), line("b", "3")]).contains("expected"));
        assert!(difference(&[line("a", "1")]).contains("b is too much"));
        let more = [line("a", "1"), line("b", "2"), line("c", "3")];
        assert!(difference(&more).contains("c is missing"));
    }

    #[test]
    fn a_part_may_be_less() {
        let head = r#"{"by":"PyTorch","partial":true}"#.to_owned();
        let one = listing(&[line("a", "1"), line("b", "2")]);
        assert!(one.compare(&listing(&[head, line("a", "1")])).is_ok());
    }
}
