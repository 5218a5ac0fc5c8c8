use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use tensorlift::{ErrorKind, Extent};

use crate::table::printable;

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

/// What programs are told of a failure: the last line of standard output.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Failed<'a> {
    error: Described<'a>,
}

/// A failure for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Described<'a> {
    /// Who must act.
    kind: ErrorKind,
    /// What people are shown: what failed, where, and the remedy.
    message: String,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<&'a str>,
    /// The first byte of the range in the file, and the one after its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<[u64; 2]>,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

/// What the status of the program means.
pub(crate) const STATUSES: [(u8, &str); 4] = [
    (0, "the command did what it was asked to"),
    (1, "it failed, or what was compared differs"),
    (
        DENIED,
        "an option or an environment variable is wrong; nothing was done",
    ),
    (INTERRUPTED, "it was interrupted; what it began is removed"),
];
/// As clap ends for options that it refuses.
const DENIED: u8 = 2;
/// As a shell names the end of a program by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The statuses for the help.
pub(crate) fn statuses() -> String {
    let lines = STATUSES.map(|(status, means)| format!("  {status:<3}  {means}"));
    format!("Exit status:\n{}", lines.join("\n"))
}

impl Failure {
    /// One message on standard error; with `json`, an object on standard output too.
    pub(crate) fn report(&self, json: bool, out: &mut impl Write) -> ExitCode {
        // What was found comes before what is wrong with it. A failure here cannot be reported.
        let _ = out.flush();
        match self {
            // The reader of our output has closed it.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Differs => {}
            Failure::Output(error) => eprintln!("error: cannot write the output: {error}"),
            Failure::Checkpoint(error) | Failure::Usage(error) => {
                // Names in it come from files and folders.
                let message = printable(&format!("{error:#}"));
                eprintln!("error: {message}{}", option_of_limit(error));
                if json {
                    let _ = write_error(out, error);
                }
            }
        }
        match self {
            Failure::Usage(_) => ExitCode::from(DENIED),
            Failure::Checkpoint(error) if error.kind() == ErrorKind::Cancelled => {
                ExitCode::from(INTERRUPTED)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Where the remedy is to raise a limit: the option that does.
fn option_of_limit(error: &tensorlift::Error) -> &'static str {
    match error.remedy() {
        _ if error.kind() != ErrorKind::LimitExceeded => "",
        // The ceilings for untrusted files.
        Some(remedy) if remedy.starts_with("raise the limit if") => " (with --limit)",
        Some(remedy) if remedy.starts_with("raise the limit") => " (with --memory-bytes)",
        _ => "",
    }
}

fn write_error(out: &mut impl Write, error: &tensorlift::Error) -> io::Result<()> {
    let error = describe(error);
    serde_json::to_writer(&mut *out, &Failed { error })?;
    writeln!(out)?;
    out.flush()
}

fn describe(error: &tensorlift::Error) -> Described<'_> {
    Described {
        kind: error.kind(),
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
