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
//! 3. Files that by their name are the state of a training run (`training_args.bin`,
//!    `optimizer.pt`, `scheduler.pt`, `rng_state*.pth`): only where there is nothing else.
//!
//! Two files of the same rank are an error that names both.
//! So is a file, a shard or a part that is missing from the first choice: the second is never
//! taken in silence.
//! Parts need no index if the series is whole; they are read in the order of their numbers.
//! Variants (`model.fp16.safetensors`, `model.safetensors.index.fp16.json`) count only where they
//! were asked for or nothing else is there.
//! Hidden files are not seen.
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
mod listing;
mod merge;
mod near;
mod options;
mod resolve;

pub use choice::{Choice, Companions, Form, PassedOver, Reason, Route};
pub use error::{Conflicts, Error, MisplacedTensor, MissingShard, MissingTensor, RepeatedTensor};
pub use hub::{HubEntry, HubMiss, HubName, HubNameError, MissReason, hub_cache};
pub use index::{BadShardName, Index, IndexError, ShardNameFault};
pub use merge::{Merged, UnlistedTensor, merge};
pub use options::{Environment, ResolveOptions};
pub use resolve::{Resolved, resolve};
