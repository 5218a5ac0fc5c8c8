//! One measured process, watched.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tensorlift_bench_protocol::{Checksum, Outcome};

/// No engine of a case that is worth a row takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the process, waits for its outcome and checks what it loaded.
pub(super) fn run(command: &mut Command, expected: &Checksum) -> Result<Outcome, String> {
    let outcome = wait(command)?;
    if outcome.checksum != *expected {
        let found = outcome.checksum;
        return Err(format!(
            "wrong bytes: expected {expected:?}, found {found:?}"
        ));
    }
    Ok(outcome)
}

fn wait(command: &mut Command) -> Result<Outcome, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let stdout = read_along(child.stdout.take());
    let stderr = read_along(child.stderr.take());
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                child.kill().and_then(|()| child.wait()).ok();
                return Err(format!("over {} s", TIMEOUT.as_secs()));
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        let last = stderr.lines().rfind(|line| !line.trim().is_empty());
        return Err(format!("{status}: {}", last.unwrap_or("no message")));
    }
    // Libraries print what they like before the outcome.
    let line = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("no outcome: {error}: {line:?}"))
}

type Reading = thread::JoinHandle<String>;

fn read_along(pipe: Option<impl Read + Send + 'static>) -> Option<Reading> {
    let mut pipe = pipe?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until a failure is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

fn text(reading: Option<Reading>) -> String {
    reading
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default()
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

    const OUTCOME: &str = r#"{"seconds":1.5,"resident_before":1,"resident_peak":3,"checksum":{"tensors":0,"bytes":0,"sum":0}}"#;

    #[test]
    fn the_last_line_is_the_outcome() {
        let outcome = shell(&format!("echo noise; echo '{OUTCOME}'")).unwrap();
        assert_eq!((outcome.seconds, outcome.growth()), (1.5, 2));
    }

    #[test]
    fn failures_say_why() {
        assert!(
            shell("echo reason >&2; exit 3")
                .unwrap_err()
                .contains("reason")
        );
        assert!(shell("echo nothing").unwrap_err().contains("no outcome"));
        let wrong = OUTCOME.replace("\"sum\":0", "\"sum\":1");
        assert!(
            shell(&format!("echo '{wrong}'"))
                .unwrap_err()
                .contains("wrong bytes")
        );
    }
}
