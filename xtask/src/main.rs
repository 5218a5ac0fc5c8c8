//! Tasks for people who work on tensorlift.
fn main() {}
