//! What the kit writes, read by others.

mod committed;
mod conformance;
mod hostile;
mod safetensors;
mod torch;
