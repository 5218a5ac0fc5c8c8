//! One measured process.

use std::process::Command;
use std::time::Duration;

use tensorlift_bench_protocol::{Checksum, Outcome};

use crate::watched::{self, Allowance, How};

/// No engine of a case that is worth a row takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// Starts the process, waits for its outcome and checks what it loaded.
pub(crate) fn run(command: &mut Command, expected: &Checksum) -> Result<Outcome, String> {
    let allowance = Allowance {
        time: LONGEST,
        memory: None,
        // Rarely: looking takes time from what is measured.
        interval: Duration::from_millis(10),
    };
    let ended = watched::run(command, allowance)?;
    match ended.how {
        How::ByItself(status) if status.success() => {}
        How::ByItself(status) => {
            let last = ended.stderr.lines().rfind(|line| !line.trim().is_empty());
            return Err(format!("{status}: {}", last.unwrap_or("no message")));
        }
        How::TookTooLong | How::TookTooMuch => {
            return Err(format!("over {:.0} s", allowance.time.as_secs_f64()));
        }
    }
    // Libraries print what they like before the outcome.
    let line = ended.stdout.lines().last().unwrap_or_default();
    let outcome: Outcome =
        serde_json::from_str(line).map_err(|error| format!("no outcome: {error}: {line:?}"))?;
    if outcome.checksum != *expected {
        let found = outcome.checksum;
        return Err(format!(
            "wrong bytes: expected {expected:?}, found {found:?}"
        ));
    }
    Ok(outcome)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Outcome, String> {
        run(
            Command::new("sh").args(["-c", script]),
            &Checksum::default(),
        )
    }

    const OUTCOME: &str = r#"{"seconds":1.5,"resident_before":1,"resident_peak":3,"checksum":{"tensors":0,"bytes":0,"sum":0,"unnamed":0}}"#;

    #[test]
    fn the_last_line_is_the_outcome() {
        let outcome = shell(&format!("echo noise; echo '{OUTCOME}'")).unwrap();
        assert_eq!((outcome.seconds, outcome.growth()), (1.5, 2));
    }

    #[test]
    fn failures_say_why() {
        let failure = |script: &str| shell(script).unwrap_err();
        assert!(failure("echo reason >&2; exit 3").contains("reason"));
        assert!(failure("echo nothing").contains("no outcome"));
        let wrong = OUTCOME.replace("\"sum\":0", "\"sum\":1");
        assert!(failure(&format!("echo '{wrong}'")).contains("wrong bytes"));
    }
}
