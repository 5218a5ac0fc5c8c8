//! tensorlift for Python: the native part, imported as `tensorlift._native`.
//!
//! It opens and loads by the facade `tensorlift`, and makes numpy arrays and torch tensors that
//! are views of the loaded memory.
//! What people call is written in Python, in `python/tensorlift`.

mod checkpoint;
mod collection;
mod dtypes;
mod error;
mod ffi;
mod fork;
mod load;
mod numpy;
mod open;
mod settings;
mod span;
mod state;
mod torch;
mod views;
mod watch;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::checkpoint::Checkpoint;
    #[pymodule_export]
    use crate::numpy::Memory;
    #[pymodule_export]
    use crate::settings::InForce;
}
