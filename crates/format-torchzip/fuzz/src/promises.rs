//! What a catalog promises about every file it describes.

use std::collections::HashSet;

use tensorlift_format_torchzip::TorchFile;
use tensorlift_tensor_meta::{Extent, Source};

use crate::memory;

pub(crate) fn hold(file: &TorchFile, file_len: u64) {
    let catalog = file.catalog();
    let within_file = |extent: Extent| {
        let end = extent.offset.checked_add(extent.len);
        assert!(
            end.is_some_and(|end| end <= file_len),
            "{extent:?} in a file of {file_len} bytes"
        );
    };
    for record in catalog.records() {
        within_file(record.extent());
    }
    let mut names = HashSet::new();
    for (position, entry) in catalog.entries().iter().enumerate() {
        assert!(
            names.insert(entry.name()),
            "the name {:?} twice",
            entry.name()
        );
        assert_eq!(catalog.position(entry.name()), Some(position));
        within_file(entry.extent());
        let bytes = entry.layout().contiguous_bytes(entry.dtype());
        assert_eq!(bytes, Some(entry.byte_len()));
        let record = catalog.record(entry);
        match &record.source {
            Source::Absent { .. } => assert_eq!(entry.extent().len, 0),
            _ => {
                let end = entry.view().offset.checked_add(entry.span_bytes());
                assert!(
                    end.zip(record.len()).is_some_and(|(end, len)| end <= len),
                    "{entry:?}"
                );
            }
        }
    }
    roots(file);
    // Whether it is given out or too large is the state's to say.
    let state = memory::bounded(file_len, || file.state());
    if let Err(error) = state {
        assert!(!error.to_string().is_empty());
    }
}

/// Roots are paths to as many tensors as they say.
fn roots(file: &TorchFile) {
    let below = |root: &tensorlift_format_torchzip::Root| {
        let entries = file.catalog().entries().iter();
        entries
            .filter(|entry| root.strip(entry.name()).is_some())
            .count()
    };
    // Each root costs a walk over all names.
    for root in file.roots().iter().take(16).chain([file.automatic_root()]) {
        assert!(
            below(root) >= root.tensors(),
            "{root:?} of {} tensors",
            below(root)
        );
    }
}
