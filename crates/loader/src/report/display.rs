//! Reports as text.

use std::collections::BTreeSet;
use std::fmt;

use tensorlift_storage::ReaderKind;

use super::LoadReport;

/// One line: what was loaded, how fast, by which reader, and the phases that took time.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readers: BTreeSet<&str> = self
            .files
            .iter()
            .map(|file| file.reader.map_or("none", ReaderKind::name))
            .collect();
        let readers: Vec<&str> = readers.into_iter().collect();
        write!(
            f,
            "{} {}, {} from {} {} in {:.3} s ({:.2} GB/s) to {} by {} x {}",
            self.tensors,
            plural(self.tensors, "tensor", "tensors"),
            Bytes(self.bytes_wanted),
            self.files.len(),
            plural(self.files.len(), "file", "files"),
            self.wall.as_secs_f64(),
            self.gigabytes_per_second(),
            self.devices.join(", "),
            readers.join(", "),
            self.threads,
        )?;
        for (index, (name, time)) in self.phases.all().into_iter().enumerate() {
            let separator = if index == 0 { "; " } else { ", " };
            write!(f, "{separator}{name} {:.1} ms", time.as_secs_f64() * 1e3)?;
        }
        if self.threads_refused > 0 {
            let threads = plural(self.threads_refused, "thread", "threads");
            write!(
                f,
                "; {} {threads} could not be started",
                self.threads_refused
            )?;
        }
        if self.memory_after.peak > 0 {
            write!(f, "; peak memory {}", Bytes(self.memory_after.peak))?;
        }
        Ok(())
    }
}

pub(crate) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    match count {
        1 => one,
        _ => many,
    }
}

/// Displays bytes in decimal units.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let text = match self.0 {
            0..1_000 => format!("{} B", self.0),
            1_000..1_000_000 => format!("{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", bytes / 1e6),
            _ => format!("{:.2} GB", bytes / 1e9),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Phases;

    #[test]
    fn the_wall_time_is_the_sum_of_the_phases() {
        let phases = Phases {
            parse: Duration::from_millis(3),
            read: Duration::from_millis(40),
            ..Phases::default()
        };
        let report = LoadReport {
            phases,
            wall: phases.sum(),
            bytes_wanted: 43_000_000,
            ..LoadReport::default()
        };
        assert_eq!(report.wall, Duration::from_millis(43));
        assert!((report.gigabytes_per_second() - 1.0).abs() < 1e-9);
        assert!(report.to_string().contains("43.0 MB"));
    }

    #[test]
    fn bytes_are_shown_in_decimal_units() {
        assert_eq!(Bytes(999).to_string(), "999 B");
        assert_eq!(Bytes(1_500).to_string(), "1.5 kB");
        assert_eq!(Bytes(4_300_000_000).to_string(), "4.30 GB");
    }
}
