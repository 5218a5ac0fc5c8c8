//! What a reader said, and whether it may.

use tensorlift_bench_protocol::{Checksum, Failure, Outcome};
use tensorlift_fixture_kit::hostile::{Case, Verdict};

use crate::watched::{Ended, How};

/// A panic of Rust's standard library ends a process with this.
const PANIC: i32 = 101;

/// What a file may take.
pub(super) struct Limits {
    pub(super) seconds: f64,
    /// Beyond the file's size and an idle reader, in bytes.
    pub(super) memory: u64,
    /// What each reader takes for next to nothing, in bytes.
    pub(super) idle: Vec<u64>,
}

/// Whether a reader did as it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Right,
    Missed(String),
    /// The file is nothing that this reader reads.
    NotAsked,
}

/// What a process said of a file.
#[derive(Debug)]
pub(super) enum Said {
    Loaded {
        /// If it told.
        checksum: Option<Checksum>,
        peak: u64,
    },
    Refused {
        error: String,
        peak: u64,
    },
    Broke(String),
}

impl Said {
    pub(super) fn of(ended: &Ended) -> Self {
        let status = match ended.how {
            How::ByItself(status) => status,
            How::TookTooLong => return Said::Broke(format!("over {:.1} s", ended.seconds)),
            How::TookTooMuch => return Said::Broke(format!("over {} MiB", ended.peak >> 20)),
        };
        let line = ended.stdout.lines().last().unwrap_or_default();
        match status.code() {
            Some(0) => {
                let outcome: Option<Outcome> = serde_json::from_str(line).ok();
                Said::Loaded {
                    peak: outcome.as_ref().map_or(ended.peak, |it| it.resident_peak),
                    checksum: outcome.map(|it| it.checksum),
                }
            }
            Some(PANIC) => Said::Broke(format!("panicked: {}", last_line(&ended.stderr))),
            Some(_) => {
                let failure: Option<Failure> = serde_json::from_str(line).ok();
                Said::Refused {
                    peak: failure.as_ref().map_or(ended.peak, |it| it.resident_peak),
                    error: failure.map_or_else(|| last_line(&ended.stderr), |it| it.error),
                }
            }
            None => Said::Broke(format!("{status}: {}", last_line(&ended.stderr))),
        }
    }

    pub(super) fn loaded(&self) -> bool {
        matches!(self, Said::Loaded { .. })
    }

    pub(super) fn peak(&self) -> u64 {
        match self {
            Said::Loaded { peak, .. } | Said::Refused { peak, .. } => *peak,
            Said::Broke(_) => 0,
        }
    }
}

/// Compares what a reader did with what it must.
pub(super) fn judge(
    case: &Case,
    ended: &Ended,
    limits: &Limits,
    reader: usize,
    size: u64,
    own_names: bool,
) -> Judgement {
    let said = Said::of(ended);
    let miss = |text: String| Judgement::Missed(text);
    if let Said::Broke(how) = said {
        return miss(how);
    }
    if ended.seconds > limits.seconds {
        return miss(format!("took {:.1} s", ended.seconds));
    }
    let grown = said.peak().saturating_sub(limits.idle[reader]);
    if grown > size + limits.memory {
        return miss(format!("took {} MiB for {size} bytes", grown >> 20));
    }
    match (&case.verdict, said) {
        (Verdict::Either, _) | (Verdict::Refused, Said::Refused { .. }) => Judgement::Right,
        (Verdict::Refused, _) => miss("loaded".to_owned()),
        (Verdict::Loads { tensors }, Said::Loaded { checksum, .. }) => {
            let mut expected = Checksum::default();
            for tensor in tensors {
                expected.tensor(&tensor.name, &tensor.bytes);
            }
            match checksum {
                None => Judgement::Right,
                Some(found) if found == expected => Judgement::Right,
                Some(found) if own_names && found.has_bytes_of(&expected) => Judgement::Right,
                Some(found) => miss(format!("wrong tensors: {found:?} for {expected:?}")),
            }
        }
        (Verdict::Loads { .. }, Said::Refused { error, .. }) => miss(format!("refused: {error}")),
        (Verdict::Loads { .. }, Said::Broke(how)) => miss(how),
    }
}

fn last_line(text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("no message").to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use tensorlift_fixture_kit::hostile;

    use super::*;

    const LIMITS: Limits = Limits {
        seconds: 2.0,
        memory: 100,
        idle: Vec::new(),
    };

    fn judged(refused: bool, status: i32, peak: u64, seconds: f64) -> Judgement {
        let wanted = |case: &Case| match case.verdict {
            Verdict::Refused => refused,
            Verdict::Loads { .. } => !refused,
            Verdict::Either => false,
        };
        let case = hostile::cases().into_iter().find(wanted).unwrap();
        let ended = Ended {
            how: How::ByItself(ExitStatus::from_raw(status)),
            seconds,
            peak,
            stdout: String::new(),
            stderr: "reason\n".to_owned(),
        };
        let limits = Limits {
            idle: vec![1000],
            ..LIMITS
        };
        judge(&case, &ended, &limits, 0, 10, false)
    }

    #[test]
    fn verdicts_are_compared_with_how_a_process_ended() {
        const ERROR: i32 = 1 << 8;
        const PANICKED: i32 = 101 << 8;
        const SEGMENTATION_FAULT: i32 = 11;
        let missed = |judgement| matches!(judgement, Judgement::Missed(_));
        assert_eq!(judged(true, ERROR, 0, 0.1), Judgement::Right);
        assert_eq!(judged(false, 0, 0, 0.1), Judgement::Right);
        assert!(missed(judged(true, 0, 0, 0.1)));
        assert!(missed(judged(false, ERROR, 0, 0.1)));
        assert!(missed(judged(true, PANICKED, 0, 0.1)));
        assert!(missed(judged(true, SEGMENTATION_FAULT, 0, 0.1)));
    }

    #[test]
    fn time_and_memory_are_bounded() {
        const ERROR: i32 = 1 << 8;
        assert_eq!(judged(true, ERROR, 1110, 2.0), Judgement::Right);
        assert!(matches!(
            judged(true, ERROR, 1111, 0.1),
            Judgement::Missed(_)
        ));
        assert!(matches!(judged(true, ERROR, 0, 2.1), Judgement::Missed(_)));
    }
}
