//! Reads PyTorch checkpoints into a catalog without running any code.
