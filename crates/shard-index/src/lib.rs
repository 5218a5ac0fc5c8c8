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
//!   It is looked for as Python's `huggingface_hub` does ([`hub_cache`]); nothing is fetched.
//!
//! # What is preferred in a folder
//!
//! 1. `model.safetensors.index.json`, `model.safetensors`, and numbered parts
//!    `model-00001-of-00003.safetensors`; the same for `diffusion_pytorch_model`, then for
//!    `adapter_model`; then another index; then any other `.safetensors` file or series of parts.
//! 2. The same for PyTorch files: `pytorch_model.bin.index.json`, `pytorch_model.bin`, and so on;
//!    any other `.bin`, `.pt`, `.pth` or `.ckpt` file comes last.
//! 3. Files of other extensions or of none, where [`ResolveOptions::sniff`] takes their bytes for
//!    a checkpoint.
//! 4. Files that by their name are the state of a training run (`training_args.bin`,
//!    `optimizer.pt`, `scheduler.pt`, `rng_state*.pth`): only where there is nothing else.
//!
//! Two files of the same rank are an error that names both.
//! So is a file, a shard or a part that is missing from the first choice: the second is never
//! taken in silence.
//! Variants (`model.fp16.safetensors`, `model.safetensors.index.fp16.json`) count only where they
//! were asked for or nothing else is there.
//! Hidden files are not seen.
//!
//! # What is a series
//!
//! Files that agree in base, variant, extension and count, whatever stands before the number
//! (`-`, `_`, `.`) and however wide it is written.
//! A series is complete by its lowest number, 0 or 1, and its count; it needs no index then, and
//! is read in the order of its numbers.
//! Two files with one number are an error.
//!
//! # Nothing is left out without a word
//!
//! Every file, series and folder that could hold tensors and is not loaded is in
//! [`Choice::passed_over`] with the reason and the way to load it.
//! Of a file that was named, these are the files whose names differ in a number only.
//! Tensors that the index does not list, and copies that it does not choose, are in [`Merged`].
//! [`ResolveOptions::index`] and [`resolve_files`] overrule what the folder says.
//!
//! # What is left out
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
pub use options::{Environment, IndexUse, ResolveOptions, Sniff, Sniffed};
pub use resolve::{Resolved, resolve, resolve_files};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
