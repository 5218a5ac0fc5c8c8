//! The result of reading a file, and the options.

use std::fmt;
use std::sync::Arc;

use serde_pickle::Value;
use tensorlift_tensor_meta::{Catalog, Limits};

use crate::catalog::roots::Root;
use crate::container::unclaimed::Unclaimed;
use crate::error::Result;
use crate::pickle::Policy;
use crate::state::State;

/// How a PyTorch file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `torch.save` since 1.6: a zip archive.
    Zip,
    /// `torch.save` before 1.6: pickles and raw storages in a row.
    Legacy,
    /// `torch.save` of 0.1: a tar archive.
    Tar,
    /// `torch.jit.save`: a zip archive with code in it.
    TorchScript,
    /// A pickle alone.
    Pickle,
}

/// Options of [`read`](crate::read).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Ceilings for untrusted files.
    pub limits: Limits,
    /// What to do with unknown classes. Default: keep them as inert data.
    pub policy: Policy,
    /// Whether to check the CRC-32 of the archive entries read here: pickles and marks. Off by
    /// default, since PyTorch can write archives whose sums are none.
    pub verify_crc: bool,
}

/// A PyTorch file: its tensors as a catalog, everything else as values.
#[derive(Debug)]
pub struct TorchFile {
    pub(super) catalog: Arc<Catalog>,
    pub(super) state: State,
    pub(super) format: Format,
    pub(super) roots: Vec<Root>,
    pub(super) automatic_root: Root,
    pub(super) other_models: Vec<Root>,
    pub(super) aliases_omitted: bool,
    pub(super) unclaimed: Vec<Unclaimed>,
}

/// # Contents
impl TorchFile {
    /// The tensors, in the order of the pickle.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Everything else, as a value.
    ///
    /// # Errors
    /// As [`State::value`].
    pub fn state(&self) -> Result<Value> {
        self.state.value()
    }

    /// The catalog and the rest, separately; the rest shares the catalog and refers to tensors by
    /// its names.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Catalog>, State) {
        (self.catalog, self.state)
    }

    /// How the file is laid out.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The mappings that hold tensors, in file order, outer before inner: where a model's own
    /// names could begin.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The root whose names are likely the model's own.
    ///
    /// It starts at the file's root and descends through dicts with one child that is the model: a
    /// child with a usual name such as `state_dict` or `model`, or the only child beside scalars
    /// and training state. Moving averages of weights come after the weights. Prefixes of wrappers
    /// (`module.`, `_orig_mod.`) count as one more step.
    #[must_use]
    pub fn automatic_root(&self) -> &Root {
        &self.automatic_root
    }

    /// Other candidates than the [`automatic_root`](Self::automatic_root), in file order: moving
    /// averages of the weights, a second network.
    #[must_use]
    pub fn other_models(&self) -> &[Root] {
        &self.other_models
    }

    /// Whether shared references made more paths than the limits allow, so that each shared
    /// container is listed under its first path only.
    #[must_use]
    pub const fn aliases_omitted(&self) -> bool {
        self.aliases_omitted
    }

    /// The bytes of the file that belong to no entry, pickle or storage, in no particular order.
    ///
    /// `torch.load` ignores them too. [`Policy::Strict`] rejects files that have any.
    #[must_use]
    pub fn unclaimed(&self) -> &[Unclaimed] {
        &self.unclaimed
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Zip => "zip",
            Format::Legacy => "legacy",
            Format::Tar => "tar",
            Format::TorchScript => "torchscript",
            Format::Pickle => "pickle",
        })
    }
}
