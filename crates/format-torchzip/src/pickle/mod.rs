//! A pickle machine that builds data and nothing else.
//!
//! It knows every opcode of protocols 0 to 5, but a call only records what would have been called.

mod arena;
mod budget;
mod call;
pub(crate) mod globals;
mod limits;
mod machine;
mod node;
mod opcode;
mod policy;
mod problem;
mod text;

pub use policy::Policy;
pub use problem::PickleProblem;

pub(crate) use arena::Arena;
pub(crate) use budget::{DescriptionBudget, OutOfBudget};
pub(crate) use limits::Ceilings;
pub(crate) use machine::{Machine, plausible};
pub(crate) use node::{Id, Node, Object};
pub(crate) use problem::PickleError;
pub(crate) use text::{display_text, latin1_bytes};
