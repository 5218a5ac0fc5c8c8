use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use tensorlift::{ErrorKind, Extent};

/// Why a command did not do what it was asked to.
pub(crate) enum Failure {
    /// The checkpoint, or the machine.
    Checkpoint(tensorlift::Error),
    /// An option or an environment variable.
    Usage(tensorlift::Error),
    /// Standard output.
    Output(io::Error),
    /// What was compared is not equal; the output says in what.
    Differs,
}

/// A failure for programs.
#[derive(Serialize)]
struct Described<'a> {
    kind: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

impl Failure {
    /// One message on standard error; with `json`, an object on standard output too.
    pub(crate) fn report(&self, json: bool, out: &mut impl Write) -> ExitCode {
        match self {
            // The reader of our output has closed it.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Differs => {}
            Failure::Output(error) => eprintln!("error: cannot write the output: {error}"),
            Failure::Checkpoint(error) | Failure::Usage(error) => {
                let hint = match error.kind() {
                    ErrorKind::LimitExceeded if raises_limit(error) => " (with --limit)",
                    _ => "",
                };
                eprintln!("error: {error:#}{hint}");
                if json {
                    let object = serde_json::json!({ "error": describe(error) });
                    // A failure here cannot be reported.
                    let _ = writeln!(out, "{object}").and_then(|()| out.flush());
                }
            }
        }
        match self {
            // As clap ends for options that it refuses.
            Failure::Usage(_) => ExitCode::from(2),
            // As a program that Ctrl-C ends.
            Failure::Checkpoint(error) if error.kind() == ErrorKind::Cancelled => {
                ExitCode::from(130)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Whether the remedy is to raise one of the ceilings for untrusted files.
fn raises_limit(error: &tensorlift::Error) -> bool {
    error
        .remedy()
        .is_some_and(|remedy| remedy.starts_with("raise the limit"))
}

fn describe(error: &tensorlift::Error) -> Described<'_> {
    Described {
        kind: error.kind().as_str(),
        message: format!("{error:#}"),
        file: error.path().map(|path| path.to_string_lossy().into_owned()),
        tensor: error.tensor(),
        bytes: error
            .extent()
            .map(|extent: Extent| [extent.offset, extent.end()]),
        remedy: error.remedy(),
    }
}

impl From<tensorlift::Error> for Failure {
    fn from(error: tensorlift::Error) -> Self {
        Failure::Checkpoint(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::Output(error.into())
    }
}
