//! `cargo xtask corpus FOLDER`: the command line over files that somebody collected.
//!
//! What the files hold is unknown, so no verdict is expected: each command must end by itself with
//! status 0 or 1, within the limits, and leave no file behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{from_root, root};
use crate::programs::Built;
use crate::watched::{self, Allowance, Ended, How};
use crate::{Result, flags};

/// What people do with a file that they do not trust.
const COMMANDS: [&[&str]; 4] = [
    &["inspect", "--json"],
    &["inspect", "--state"],
    &["plan"],
    &["load"],
];
/// What the program itself takes, generously, in bytes.
const IDLE_BYTES: u64 = 32 << 20;

pub(crate) fn run(flags: &flags::Corpus) -> Result<()> {
    let folder = from_root(&flags.folder);
    if !folder.is_dir() {
        println!("not run: {} is not there", folder.display());
        return Ok(());
    }
    Built::Cli.build(flags.release)?;
    let scratch = root().join("target/corpus");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;

    let files = files_below(&folder)?;
    let (mut loaded, mut refused, mut faults) = (0, 0, Vec::new());
    for file in &files {
        let size = fs::metadata(file)?.len();
        for arguments in COMMANDS {
            let mut command = Built::Cli.command(flags.release);
            command.args(arguments).arg(file).current_dir(&scratch);
            let ended = watched::run(&mut command, allowance(flags))?;
            match judge(&ended, size + (flags.mebibytes << 20) + IDLE_BYTES) {
                Ok(0) => loaded += 1,
                Ok(_) => refused += 1,
                Err(fault) => {
                    let command = arguments.join(" ");
                    faults.push(format!("{} ({command}): {fault}", file.display()));
                }
            }
        }
    }
    let made: Vec<PathBuf> = files_below(&scratch)?;
    faults.extend(
        made.iter()
            .map(|file| format!("{}: written", file.display())),
    );
    let before: BTreeSet<&PathBuf> = files.iter().collect();
    let now = files_below(&folder)?;
    let new = now.iter().filter(|file| !before.contains(file));
    faults.extend(new.map(|file| format!("{}: written", file.display())));

    println!(
        "{} files: {loaded} commands succeeded, {refused} refused",
        files.len()
    );
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("{} faults:\n{}", faults.len(), faults.join("\n")).into()),
    }
}

fn allowance(flags: &flags::Corpus) -> Allowance {
    Allowance {
        time: Duration::from_secs_f64(flags.seconds),
        memory: Some(2 << 30),
        interval: Duration::from_millis(2),
    }
}

/// The status, if the process ended as it may.
fn judge(ended: &Ended, most_bytes: u64) -> std::result::Result<i32, String> {
    let status = match ended.how {
        How::TookTooLong => return Err(format!("over {:.1} s", ended.seconds)),
        How::TookTooMuch => return Err(format!("over {} MiB", ended.peak >> 20)),
        How::ByItself(status) => status,
    };
    if ended.peak > most_bytes {
        return Err(format!("took {} MiB", ended.peak >> 20));
    }
    match status.code() {
        Some(code @ (0 | 1)) => Ok(code),
        _ => {
            let last = ended.stderr.lines().last().unwrap_or_default();
            Err(format!("{status}: {last}"))
        }
    }
}

/// All files below a folder, sorted; links are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(how: How, peak: u64) -> Ended {
        Ended {
            how,
            seconds: 1.0,
            peak,
            stdout: String::new(),
            stderr: "thread 'main' panicked\n".to_owned(),
        }
    }

    #[test]
    fn only_an_orderly_end_within_the_limits_passes() {
        let status = |raw| How::ByItself(ExitStatus::from_raw(raw));
        assert_eq!(judge(&ended(status(0), 10), 10), Ok(0));
        assert_eq!(judge(&ended(status(1 << 8), 10), 10), Ok(1));
        assert!(judge(&ended(status(0), 11), 10).is_err());
        assert!(judge(&ended(status(101 << 8), 0), 10).is_err());
        assert!(judge(&ended(status(11), 0), 10).is_err());
        assert!(judge(&ended(How::TookTooLong, 0), 10).is_err());
        assert!(judge(&ended(How::TookTooMuch, 0), 10).is_err());
    }

    #[test]
    fn files_of_subfolders_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["b", "a", "sub/c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = files_below(folder.path()).unwrap();
        let names = ["a", "b", "sub/c"].map(|name| folder.path().join(name));
        assert_eq!(found, names);
    }
}
