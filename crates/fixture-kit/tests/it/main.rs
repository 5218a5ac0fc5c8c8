//! What the kit writes, read by others.

mod committed;
mod conformance;
mod safetensors;
mod torch;
