//! Writes good and broken checkpoints by recipe; conformance suites for the seams.
