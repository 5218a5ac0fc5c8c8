//! Loading by tensorlift against loading by candle, each time in a fresh process.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{Result, candle_model, tensorlift_model};

/// Rounds; the loaders take turns, so that both see the same machine.
const ROUNDS: usize = 7;
const LOADERS: [&str; 2] = ["tensorlift", "candle"];

#[derive(Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    /// The most memory that was resident at once, mapped files included.
    peak_bytes: Option<u64>,
}

/// Loads once and prints what that took.
pub(crate) fn measure(loader: &str, folder: &Path) -> Result<()> {
    let clock = Instant::now();
    let model = match loader {
        "tensorlift" => tensorlift_model(folder)?,
        "candle" => candle_model(folder)?,
        _ => return Err(format!("expected one of {LOADERS:?}, found {loader:?}").into()),
    };
    let measured = Measured {
        seconds: clock.elapsed().as_secs_f64(),
        peak_bytes: peak_bytes(),
    };
    drop(model);
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Prints the median time and the peak memory of each loader.
pub(crate) fn compare(folder: &Path) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut measured: [Vec<Measured>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (loader, measured) in LOADERS.iter().zip(&mut measured) {
            let mut child = Command::new(&program);
            child.arg(folder).args(["--only", loader]);
            let output = child.output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            measured.push(serde_json::from_slice(&output.stdout)?);
        }
    }
    for (loader, measured) in LOADERS.iter().zip(&mut measured) {
        measured.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let (least, most) = (measured[0].seconds, measured[ROUNDS - 1].seconds);
        let median = measured[ROUNDS / 2].seconds;
        let peak = measured.iter().filter_map(|one| one.peak_bytes).max();
        let peak = peak.map_or("unknown".into(), |bytes| {
            format!("{:.1} MB", bytes as f64 / 1e6)
        });
        let milliseconds = |seconds: f64| seconds * 1e3;
        println!(
            "{loader:>10}: {:.1} ms ({:.1} to {:.1}), peak {peak}",
            milliseconds(median),
            milliseconds(least),
            milliseconds(most),
        );
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(not(target_os = "linux"))]
fn peak_bytes() -> Option<u64> {
    None
}
