//! Inspect, plan and load model checkpoints.
fn main() {}
