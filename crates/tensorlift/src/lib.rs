//! Load model checkpoints eagerly, fast and safely: safetensors and PyTorch files into memory.
