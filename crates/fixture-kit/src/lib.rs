//! Writes good and broken checkpoints by recipe.
//!
//! For tests, benches and `cargo xtask`; nothing that is published depends on it.
//! A recipe is a [`CheckpointSpec`]: it writes the files and says which bytes every tensor has.
//!
//! ```
//! use tensorlift_fixture_kit::{CheckpointSpec, Format};
//! use tensorlift_tensor_meta::Dtype;
//!
//! let spec = CheckpointSpec::new(Format::torch_zip())
//!     .tensor("embed.weight", Dtype::BF16, [8, 4])
//!     .tied("head.weight", "embed.weight");
//! let bytes = spec.to_bytes();
//! assert!(bytes.starts_with(b"PK"));
//! let expected = spec.expected();
//! assert_eq!(expected[0].bytes, expected[1].bytes);
//! ```
//!
//! - [`CheckpointSpec`] and [`presets`]: checkpoints of any shape, also GiB large.
//! - [`arbitrary_spec`]: a proptest strategy over them.
//! - [`pickle`] and [`zip`]: the assemblers below, for files that no recipe describes.
//! - [`committed`]: the files that PyTorch and Python's safetensors wrote, with what they hold.
//! - [`hostile`]: broken, lying and odd files, each with the verdict a reader must reach.
//! - [`oracle`]: a tensor's bytes by the plainest way. [`seeds`]: what fuzzers start from.

mod arbitrary;
pub mod committed;
mod content;
mod elements;
mod expected;
mod files;
pub mod hostile;
pub mod oracle;
pub mod pickle;
pub mod presets;
pub mod safetensors;
pub mod seeds;
mod spec;
pub mod torch;
pub mod zip;

pub use arbitrary::{arbitrary_spec, arbitrary_spec_of};
pub use content::fill;
pub use expected::ExpectedTensor;
pub use files::Written;
pub use spec::{CheckpointSpec, Format, SharedStorage, StorageView, TensorSpec};
