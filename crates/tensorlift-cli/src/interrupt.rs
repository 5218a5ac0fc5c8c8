//! Ctrl-C and requests to end: what was begun is cleaned up.

use tensorlift::{CancelToken, Error, ErrorKind, Result};

/// A token that is cancelled by Ctrl-C, by a request to end, and when the terminal closes; a second
/// one ends the program at once.
#[cfg(unix)]
pub(crate) fn token() -> CancelToken {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;

    let token = CancelToken::new();
    let own = token.clone();
    // Where there is no thread or no handler for it, signals end the program as they always do.
    if let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGXFSZ]) {
        let wait = move || {
            // A write beyond the limit on the sizes of files fails by itself, once its signal does
            // not end the program.
            for signal in signals.forever().filter(|&signal| signal != SIGXFSZ) {
                if own.is_cancelled() {
                    std::process::exit(128 + signal);
                }
                own.cancel();
            }
        };
        let _ = std::thread::Builder::new().spawn(wait);
    }
    token
}

#[cfg(not(unix))]
pub(crate) fn token() -> CancelToken {
    CancelToken::new()
}

/// Fails once the token is cancelled.
pub(crate) fn check(token: &CancelToken) -> Result<()> {
    match token.is_cancelled() {
        false => Ok(()),
        true => Err(interrupted()),
    }
}

/// The error of a command that was interrupted.
pub(crate) fn interrupted() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "interrupted; what was begun is removed",
    )
}
