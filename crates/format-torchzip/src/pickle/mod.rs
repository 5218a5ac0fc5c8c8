//! A pickle machine that builds data and nothing else.
//!
//! It knows every opcode of protocols 0 to 5, but a call only notes what would have been called.

mod arena;
mod budget;
mod call;
pub(crate) mod globals;
mod limits;
mod machine;
mod opcode;
mod problem;
mod text;

pub use problem::PickleProblem;

pub(crate) use arena::{Arena, Id, Node, Object};
pub(crate) use budget::{DescriptionBudget, OutOfBudget};
// The word that the containers still use.
pub(crate) use budget::DescriptionBudget as Budget;
pub(crate) use limits::Ceilings;
pub(crate) use machine::{Machine, plausible};
pub(crate) use problem::PickleError;
pub(crate) use text::{display_text, latin1_bytes};

/// What to do with classes and functions outside the closed list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Refuse the file, naming the first one, like `weights_only=True` of `torch.load`.
    Strict,
    /// Keep their objects as inert data whose tensors are still found. Nothing is ever called.
    #[default]
    Inert,
}
