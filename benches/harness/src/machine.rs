//! What was measured on, and when.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Cores, memory, kernel and processor, in one line.
#[must_use]
pub fn describe() -> String {
    let mut parts = Vec::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    parts.push(format!("{cores} cores"));
    if let Some(processor) = field("/proc/cpuinfo", "model name") {
        parts.push(processor);
    }
    if let Some(kib) = field("/proc/meminfo", "MemTotal") {
        let kib: u64 = kib.trim_end_matches(" kB").parse().unwrap_or(0);
        parts.push(format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)));
    }
    if let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        parts.push(format!("Linux {}", release.trim()));
    }
    parts.join(", ")
}

/// The date in UTC, such as `2026-11-23`.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
    date(seconds.map_or(0, |seconds| seconds.as_secs() / 86_400))
}

/// The date this many days after 1970-01-01.
fn date(mut days: u64) -> String {
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_780), "2026-11-23");
    }
}
