//! What the kit writes, read by others.

mod committed;
mod hostile;
mod safetensors;
mod torch;
