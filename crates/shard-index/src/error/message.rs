//! Messages that are assembled from several parts.

use std::fmt;
use std::path::PathBuf;

use tensorlift_tensor_meta::ShardId;

use super::{Conflicts, MissingShard};
use crate::choice::PassedOver;
use crate::hub::HubMiss;
use crate::listing::{Listing, name};

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |shard: ShardId| {
            let path = self.shards.get(shard.index());
            path.map_or_else(
                || format!("shard {}", shard.0),
                |path| name(path).display().to_string(),
            )
        };
        let missing = Listing::with(&self.missing, |tensor, f| {
            write!(f, "{:?} (listed in {})", tensor.name, file(tensor.listed))
        });
        let misplaced = Listing::with(&self.misplaced, |tensor, f| {
            let (listed, found) = (file(tensor.listed), file(tensor.found));
            write!(
                f,
                "{:?} (listed in {listed}, found in {found})",
                tensor.name
            )
        });
        let repeated = Listing::with(&self.repeated, |tensor, f| {
            let shards: Vec<_> = tensor.shards.iter().map(|&shard| file(shard)).collect();
            write!(f, "{:?} ({})", tensor.name, Listing::plain(&shards))
        });
        let groups: [(_, &str, &dyn fmt::Display); 3] = [
            (self.missing.len(), "in no shard", &missing),
            (
                self.misplaced.len(),
                "in another shard than the index says",
                &misplaced,
            ),
            (self.repeated.len(), "in several shards", &repeated),
        ];
        let mut separator = "";
        for (count, what, list) in groups.into_iter().filter(|&(count, ..)| count > 0) {
            let s = if count == 1 { "" } else { "s" };
            write!(f, "{separator}{count} tensor{s} {what}: {list}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl fmt::Display for MissingShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", name(&self.path))?;
        match self.found {
            "not there" => Ok(()),
            found => write!(f, " ({found})"),
        }
    }
}

pub(super) struct NotFoundLine<'a> {
    pub(super) folder: &'a PathBuf,
    pub(super) near: &'a [PathBuf],
    pub(super) hub: Option<&'a HubMiss>,
}

impl fmt::Display for NotFoundLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such file or folder")?;
        if !self.near.is_empty() {
            let folder = self.folder.display();
            write!(f, "; nearest in {folder}: {}", Listing::names(self.near))?;
        }
        match self.hub {
            Some(miss) => write!(f, "; as a hub name: {miss}"),
            None => Ok(()),
        }
    }
}

pub(super) struct NoCheckpointLine<'a> {
    pub(super) unsupported: &'a [PathBuf],
    pub(super) folders: &'a [PathBuf],
}

impl fmt::Display for NoCheckpointLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a .safetensors, .bin, .pt, .pth or .ckpt file, found ")?;
        let files = Listing::names(self.unsupported);
        match UnsupportedKind::of(self.unsupported) {
            None => f.write_str("none")?,
            Some(UnsupportedKind::Distributed) => write!(
                f,
                "a distributed checkpoint (torch.distributed.checkpoint): {files}"
            )?,
            Some(_) => write!(f, "only formats that are not supported: {files}")?,
        }
        if !self.folders.is_empty() {
            // In full, so that they can be copied.
            let folders = Listing::with(self.folders, |folder, f| write!(f, "{folder:?}"));
            write!(f, "; these folders in it have some: {folders}")?;
        }
        Ok(())
    }
}

/// What is known of files that are not supported, by their extensions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnsupportedKind {
    /// `.distcp`: each file holds pieces of tensors.
    Distributed,
    /// `.pt2`: written by `torch.export`.
    Export,
    /// `.gguf`, `.ggml`
    LlamaCpp,
    /// Archives, in which checkpoints may lie.
    Archive,
    /// Any other.
    Other,
}

impl UnsupportedKind {
    pub(super) fn of(files: &[PathBuf]) -> Option<Self> {
        let extension = files.first()?.extension();
        let extension = extension.map(std::ffi::OsStr::to_ascii_lowercase);
        Some(match extension.as_ref().and_then(|text| text.to_str()) {
            Some("distcp") => UnsupportedKind::Distributed,
            Some("pt2") => UnsupportedKind::Export,
            Some("gguf" | "ggml") => UnsupportedKind::LlamaCpp,
            Some("tar" | "zip" | "gz" | "tgz" | "zst" | "xz" | "bz2" | "7z" | "rar" | "nemo") => {
                UnsupportedKind::Archive
            }
            _ => UnsupportedKind::Other,
        })
    }
}

pub(super) struct NoVariantLine<'a> {
    pub(super) variant: &'a str,
    pub(super) available: &'a [String],
}

impl fmt::Display for NoVariantLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected files of variant {:?}, found ", self.variant)?;
        match self.available {
            [] => f.write_str("only files without a variant"),
            [one] => write!(f, "only files of variant {one:?}"),
            several => write!(f, "only files of the variants {}", Listing::quoted(several)),
        }
    }
}

pub(super) struct MissingShardsLine<'a> {
    pub(super) shards: usize,
    pub(super) missing: &'a [MissingShard],
    pub(super) alternatives: &'a [PassedOver],
}

impl fmt::Display for MissingShardsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, missing) = (self.missing.len(), Listing::plain(self.missing));
        match self.shards {
            1 => write!(f, "the only shard is missing: {missing}")?,
            shards => write!(f, "{count} of {shards} shards missing: {missing}")?,
        }
        if !self.alternatives.is_empty() {
            let others = Listing::plain(self.alternatives);
            write!(f, "; the folder also has {others}")?;
        }
        Ok(())
    }
}
