//! The log, on standard error.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use clap::{ArgAction, Args};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The variable that is used where the option is not given.
const VARIABLE: &str = "TENSORLIFT_LOG";
/// Its options come after those of the command.
const HEADING: &str = "Logging";

/// What to log.
#[derive(Args)]
pub(crate) struct LogArgs {
    /// Log to standard error: off, warn, info, debug or trace, and json for a JSON object a line,
    /// such as `debug,json` [env: TENSORLIFT_LOG]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        conflicts_with = "verbose",
        help_heading = HEADING
    )]
    log: Option<Log>,
    /// Short for --log info; given twice, for --log debug
    #[arg(
        short,
        long,
        action = ArgAction::Count,
        global = true,
        help_heading = HEADING
    )]
    verbose: u8,
}

/// A level and a form.
#[derive(Clone, Copy)]
struct Log {
    level: LevelFilter,
    json: bool,
}

impl FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut log = Self {
            level: LevelFilter::INFO,
            json: false,
        };
        for word in text.split(',') {
            match word {
                "json" => log.json = true,
                "off" => log.level = LevelFilter::OFF,
                "warn" => log.level = LevelFilter::WARN,
                "info" => log.level = LevelFilter::INFO,
                "debug" => log.level = LevelFilter::DEBUG,
                "trace" => log.level = LevelFilter::TRACE,
                _ => {
                    return Err(format!(
                        "expected off, warn, info, debug, trace or json, found {word:?}"
                    ));
                }
            }
        }
        Ok(log)
    }
}

impl LogArgs {
    /// Starts logging.
    ///
    /// From `info` on, the end of each phase is an event with its time; otherwise only warnings
    /// are shown. An option comes before the variable, and an empty variable counts as unset.
    ///
    /// # Errors
    /// If the variable has another value than the option takes.
    pub(crate) fn start(&self) -> Result<(), String> {
        let plain = |level| Log { level, json: false };
        let Log { level, json } = match (self.log, self.verbose) {
            (Some(log), _) => log,
            (None, 0) => Self::of_environment()?.unwrap_or(plain(LevelFilter::WARN)),
            (None, 1) => plain(LevelFilter::INFO),
            (None, _) => plain(LevelFilter::DEBUG),
        };
        let log = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        match json {
            true => log.json().init(),
            false => log.init(),
        }
        Ok(())
    }

    fn of_environment() -> Result<Option<Log>, String> {
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => {
                let log = text.parse();
                log.map(Some)
                    .map_err(|found| format!("{VARIABLE}: {found}"))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_form_are_words_of_a_list() {
        let parsed = |text: &str| text.parse::<Log>().map(|log| (log.level, log.json));
        assert_eq!(parsed("debug"), Ok((LevelFilter::DEBUG, false)));
        assert_eq!(parsed("json"), Ok((LevelFilter::INFO, true)));
        assert_eq!(parsed("json,off"), Ok((LevelFilter::OFF, true)));
        assert!(parsed("loud").unwrap_err().contains("found \"loud\""));
        assert!(parsed("").is_err());
    }
}
