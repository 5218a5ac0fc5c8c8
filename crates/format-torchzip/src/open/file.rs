//! What reading a file returns, and its options.

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

/// How to read a file.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Ceilings for files that nobody vouches for.
    pub limits: Limits,
    /// What to do with unknown classes. Default: keep them as inert data.
    pub policy: Policy,
    /// Whether to check the CRC-32 of the archive entries read here: pickles and marks. Off by
    /// default, since PyTorch can write archives whose sums are none.
    pub verify_crc: bool,
}

/// A PyTorch file: its tensors as a catalog, the rest as values.
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

/// # What was read
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

    /// The catalog and the rest, apart; the rest knows tensors by their names in the catalog, and
    /// shares it.
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
    /// From the file's root it goes down through dicts whose one child is the model: it has a
    /// usual name such as `state_dict` or `model`, or all beside it are scalars and what a
    /// training run keeps. Moving averages of weights come after the weights. What wrappers of
    /// the model put before all names (`module.`, `_orig_mod.`) counts as one more step.
    #[must_use]
    pub fn automatic_root(&self) -> &Root {
        &self.automatic_root
    }

    /// What is beside the [`automatic_root`](Self::automatic_root) and could be a model too,
    /// in file order: moving averages of the weights, a second network.
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

    /// The bytes of the file that belong to no entry, pickle or storage, in no special order.
    ///
    /// `torch.load` passes over them too. [`Policy::Strict`] refuses files that have any.
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
