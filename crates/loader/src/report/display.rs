//! Reports as text.

use std::collections::BTreeSet;
use std::fmt;

use tensorlift_storage::ReaderKind;

use super::{KeptTensor, LoadReport, Setting};

/// Tensors that were not converted that the text names before it counts the rest.
const LISTED_KEPT: usize = 5;

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
        if self.bytes_over_bus > 0 {
            write!(f, "; {} over the bus", Bytes(self.bytes_over_bus))?;
        }
        write_kept(f, &self.kept)?;
        for (index, setting) in self.settings.iter().enumerate() {
            let before = if index == 0 { "; set: " } else { ", " };
            write!(f, "{before}{setting}")?;
        }
        if self.memory_after.peak > 0 {
            write!(f, "; peak memory {}", Bytes(self.memory_after.peak))?;
        }
        Ok(())
    }
}

/// The first few tensors that were not converted, and how many more there are.
fn write_kept(f: &mut fmt::Formatter<'_>, kept: &[KeptTensor]) -> fmt::Result {
    for (index, KeptTensor { name, dtype }) in kept.iter().take(LISTED_KEPT).enumerate() {
        let before = match index {
            0 => "; not converted: ",
            _ => ", ",
        };
        write!(f, "{before}{name} ({dtype})")?;
    }
    match kept.len().saturating_sub(LISTED_KEPT) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// `mode=map (TENSORLIFT_MODE)`
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.name, self.value, self.source)
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

    use tensorlift_tensor_meta::Dtype;

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
    fn the_text_names_what_was_not_converted_and_counts_the_bus() {
        let kept = |index: usize| KeptTensor {
            name: format!("ids.{index}"),
            dtype: Dtype::I64,
        };
        let report = LoadReport {
            kept: (0..7).map(kept).collect(),
            bytes_over_bus: 2_000,
            ..LoadReport::default()
        };
        let text = report.to_string();
        let names = "; not converted: ids.0 (I64), ids.1 (I64), ids.2 (I64), ids.3 (I64), \
                     ids.4 (I64) and 2 more";
        assert!(text.contains(names), "{text}");
        assert!(text.contains("2.0 kB over the bus"), "{text}");
        let text = LoadReport::default().to_string();
        assert!(!text.contains("converted"), "{text}");
        assert!(!text.contains("bus"), "{text}");
    }

    #[test]
    fn bytes_are_shown_in_decimal_units() {
        assert_eq!(Bytes(999).to_string(), "999 B");
        assert_eq!(Bytes(1_500).to_string(), "1.5 kB");
        assert_eq!(Bytes(4_300_000_000).to_string(), "4.30 GB");
    }
}
