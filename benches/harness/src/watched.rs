//! One process, watched: it may take so long and so much memory, and no more.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a process may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// How long it may run.
    pub time: Duration,
    /// Resident bytes, where the system tells.
    pub memory: Option<u64>,
    /// How often it is looked at.
    pub interval: Duration,
}

/// How a process ended, and what it left.
#[derive(Debug)]
pub struct Ended {
    /// By itself, or not.
    pub how: How,
    /// How long it ran.
    pub seconds: f64,
    /// The most memory that was seen, in bytes; what came and went between two looks was not.
    pub peak: u64,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With this status.
    ByItself(ExitStatus),
    /// It was ended: more time than allowed.
    TookTooLong,
    /// It was ended: more memory than allowed.
    TookTooMuch,
}

/// Runs a process to its end, or to that of its allowance.
///
/// # Errors
/// If it cannot be started or waited for.
pub fn run(command: &mut Command, allowance: Allowance) -> Result<Ended, String> {
    let clock = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let stdout = read_along(child.stdout.take());
    let stderr = read_along(child.stderr.take());
    let mut peak = 0;
    let waited = wait(&mut child, allowance, clock, &mut peak);
    let seconds = clock.elapsed().as_secs_f64();
    if !matches!(waited, Ok(How::ByItself(_))) {
        child.kill().and_then(|()| child.wait()).ok();
    }
    Ok(Ended {
        how: waited.map_err(|error| format!("cannot be waited for: {error}"))?,
        seconds,
        peak,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn wait(
    child: &mut Child,
    allowance: Allowance,
    clock: Instant,
    peak: &mut u64,
) -> std::io::Result<How> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(How::ByItself(status));
        }
        *peak = resident_peak(child.id()).unwrap_or(0).max(*peak);
        if allowance.memory.is_some_and(|allowed| *peak > allowed) {
            return Ok(How::TookTooMuch);
        }
        if clock.elapsed() > allowance.time {
            return Ok(How::TookTooLong);
        }
        thread::sleep(allowance.interval);
    }
}

fn resident_peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        time: Duration::from_secs(20),
        memory: None,
        interval: Duration::from_millis(1),
    };

    fn shell(script: &str, allowance: Allowance) -> Ended {
        run(Command::new("sh").args(["-c", script]), allowance).unwrap()
    }

    #[test]
    fn what_a_process_says_and_how_it_ends_is_kept() {
        let ended = shell("echo one; echo two >&2; exit 3", ALLOWANCE);
        assert_eq!((&*ended.stdout, &*ended.stderr), ("one\n", "two\n"));
        assert!(matches!(ended.how, How::ByItself(status) if status.code() == Some(3)));
    }

    #[test]
    fn too_long_and_too_much_is_stopped() {
        let short = Allowance {
            time: Duration::from_millis(20),
            ..ALLOWANCE
        };
        // `exec`: a shell's own child would outlive it and keep the pipes open.
        assert_eq!(shell("exec sleep 60", short).how, How::TookTooLong);
        let small = Allowance {
            memory: Some(1),
            ..ALLOWANCE
        };
        assert_eq!(shell("exec sleep 60", small).how, How::TookTooMuch);
    }
}
