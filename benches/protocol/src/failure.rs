use std::ffi::OsString;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tensorlift_storage::os;

use crate::{Request, Result};

/// What a process prints in place of an outcome when it could not load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the engine says.
    pub error: String,
    /// The most memory that the process had in its life, in bytes; 0 where the system does not
    /// tell.
    pub resident_peak: u64,
}

/// The `main` of a program with engines: takes the arguments, runs, prints a [`Failure`] if need
/// be.
pub fn main_of(run: impl FnOnce(&Request) -> Result<()>) -> ExitCode {
    main_with(std::env::args_os(), run)
}

/// As [`main_of`], with other arguments than the process's own; the first is the program.
pub fn main_with(
    arguments: impl IntoIterator<Item = OsString>,
    run: impl FnOnce(&Request) -> Result<()>,
) -> ExitCode {
    let outcome = Request::from_arguments(arguments).and_then(|request| run(&request));
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let failure = Failure {
        error: error.to_string(),
        resident_peak: os::memory().peak,
    };
    match serde_json::to_string(&failure) {
        Ok(line) => println!("{line}"),
        Err(_) => println!("{{}}"),
    }
    eprintln!("{error}");
    ExitCode::FAILURE
}
