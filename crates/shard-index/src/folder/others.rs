//! What a folder offers beside the files that were chosen.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::below::Below;
use super::candidate::Candidate;
use crate::choice::{PassedOver, Reason};

/// The contents of a folder that were not chosen.
#[derive(Default)]
pub(crate) struct Others {
    pub(super) candidates: Vec<(Candidate, Reason)>,
    pub(super) unsupported: Vec<PathBuf>,
    pub(super) below: Below,
}

impl Others {
    /// Everything unused, listed once; a series by its first file.
    pub(crate) fn passed_over(self, used: &HashSet<&Path>) -> Vec<PassedOver> {
        let mut passed_over = Vec::new();
        for (candidate, reason) in self.candidates {
            let reason = match candidate.name.training_state {
                true => Reason::TrainingState,
                false => reason,
            };
            let files = candidate.files.into_values().chain(candidate.twins);
            let mut files = files.filter(|path| !used.contains(path.as_path()));
            if let Some(path) = files.next() {
                let files = 1 + files.count();
                passed_over.push(PassedOver {
                    path,
                    files,
                    reason,
                });
            }
        }
        let alone = |path, reason| PassedOver {
            path,
            files: 1,
            reason,
        };
        let unsupported = self.unsupported.into_iter().chain(self.below.unsupported);
        let unsupported = unsupported.filter(|path| !used.contains(path.as_path()));
        passed_over.extend(unsupported.map(|path| alone(path, Reason::Unsupported)));
        let is_used = |folder: &PathBuf| used.iter().any(|path| path.starts_with(folder));
        let folders = self
            .below
            .folders
            .into_iter()
            .filter(|folder| !is_used(folder));
        passed_over.extend(folders.map(|path| alone(path, Reason::Subfolder)));
        passed_over
    }
}
