//! Reads a safetensors header into a catalog, strictly; writes safetensors files.
