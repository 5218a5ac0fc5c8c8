//! `cargo xtask schemas`: the forms of what the command line prints, as committed JSON schemas.
//!
//! A test of the command line compares them, and so does `cargo test`; here they are written too.

use crate::Result;
use crate::command::{cargo, run as run_command};

/// The variable that makes the test write.
const BLESS: &str = "TENSORLIFT_BLESS";

pub(crate) fn run(bless: bool) -> Result<()> {
    let mut test = cargo();
    test.args([
        "test",
        "--quiet",
        "--package=tensorlift-cli",
        "--bin=tensorlift",
    ]);
    test.arg("schema::");
    if bless {
        test.env(BLESS, "1");
    }
    run_command(&mut test)
}
