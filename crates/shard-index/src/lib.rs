//! Turns a path or a hub name into the files of one checkpoint, and their catalogs into one.
//!
//! ```
//! use tensorlift_shard_index::{ResolveOptions, resolve};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! std::fs::write(folder.join("a.safetensors"), "")?;
//! std::fs::write(
//!     folder.join("model.safetensors.index.json"),
//!     r#"{"weight_map": {"weight": "a.safetensors"}}"#,
//! )?;
//! let resolved = resolve(folder, &ResolveOptions::new())?;
//! assert_eq!(resolved.shards, [folder.join("a.safetensors")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a target can be
//!
//! - A file of any name: that file.
//! - An index file, known by its name (`*.index.json`) or by what it holds: its shards.
//! - A folder: the first of the list below.
//! - `org/name`, `org/name@revision` or `name`, where no such path exists: the folder of that
//!   snapshot in the local Hugging Face cache.
//!   It is found as Python's `huggingface_hub` finds it ([`hub_cache`]); nothing is fetched.
//!
//! # What is preferred in a folder
//!
//! 1. `model.safetensors.index.json`, `model.safetensors`, and numbered parts
//!    `model-00001-of-00003.safetensors`; the same for `diffusion_pytorch_model`, then for
//!    `adapter_model`; then another index; then any other `.safetensors` file or series of parts.
//! 2. The same for PyTorch files: `pytorch_model.bin.index.json`, `pytorch_model.bin`, and so on;
//!    any other `.bin`, `.pt`, `.pth` or `.ckpt` file comes last.
//! 3. Files with other extensions or none, if [`ResolveOptions::sniff`] recognises their bytes
//!    as a checkpoint.
//! 4. Files whose names mark them as the state of a training run (`training_args.bin`,
//!    `optimizer.pt`, `scheduler.pt`, `rng_state*.pth`): only if there is nothing else.
//!
//! With [`ResolveOptions::preferred`], PyTorch files come before safetensors.
//!
//! Two files of the same rank are an error that names both.
//! A file, shard or part that is missing from the first choice is an error too: the second choice
//! never replaces it silently.
//! Variants (`model.fp16.safetensors`, `model.safetensors.index.fp16.json`) count only if
//! requested, or if nothing else exists.
//! Hidden files are ignored.
//!
//! # What is a series
//!
//! Files that agree in base, variant, extension and count, whatever separates the number
//! (`-`, `_`, `.`) and however wide it is written.
//! A series is complete if it has every number from its lowest, 0 or 1, up to its count; it then
//! needs no index and is read in the order of its numbers.
//! Two files with the same number are an error.
//!
//! # What is left out is reported
//!
//! Every file, series and folder that could hold tensors and is not loaded is in
//! [`Choice::passed_over`] with the reason and the way to load it.
//! If the target is a file, these are the files whose names differ from it only in a number.
//! Tensors that the index does not list, and copies that it does not choose, are in [`Merged`].
//! [`ResolveOptions::index`] and [`resolve_files`] override these rules.
//!
//! # Not supported
//!
//! Fetching, folders within a repository, and configuration: [`Companions`] says where the
//! files are, and opens none.
//! `~user` and Windows' `%NAME%` in environment variables are not expanded.

mod choice;
mod error;
mod file_name;
mod folder;
mod hub;
mod index;
mod index_file;
mod listing;
mod merge;
mod near;
mod options;
mod resolve;

pub use choice::{Choice, Companions, Form, PassedOver, Reason, Route};
pub use error::{Conflicts, Error, MisplacedTensor, MissingShard, MissingTensor, RepeatedTensor};
pub use hub::{HubEntry, HubMiss, HubName, HubNameError, MissReason, hub_cache};
pub use index::{BadShardName, Index, IndexError, ShardNameFault};
pub use merge::{HeldTensor, Merged, merge};
pub use options::{Environment, IndexUse, ResolveOptions, Sniff, Sniffed, WeightFormat};
pub use resolve::{Resolved, resolve, resolve_files};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
