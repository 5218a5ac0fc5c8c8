//! How much of a checkpoint is of which dtype.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use tensorlift::{Bytes, Dtype, Entry};

use crate::table::Table;

/// The longest bar, in characters.
const BAR: f64 = 30.0;

/// Tensors of a dtype, or all of them.
#[derive(Clone, Copy, Default)]
struct Total {
    tensors: u64,
    elements: u64,
    bytes: u64,
}

impl Total {
    /// Views of one storage may have more bytes together than there are.
    fn add(&mut self, other: Self) {
        self.tensors += other.tensors;
        self.elements = self.elements.saturating_add(other.elements);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn share_of(self, all: Self) -> f64 {
        self.bytes as f64 / all.bytes.max(1) as f64
    }
}

/// Writes a line for each dtype, and one for all; in a terminal, with bars.
pub(super) fn write_histogram(out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    let mut totals: BTreeMap<Dtype, Total> = BTreeMap::new();
    let mut all = Total::default();
    for entry in entries {
        let one = Total {
            tensors: 1,
            elements: entry.layout().elements() as u64,
            bytes: entry.byte_len(),
        };
        totals.entry(entry.dtype()).or_default().add(one);
        all.add(one);
    }
    let has_bars = io::stdout().is_terminal();
    let heads = ["dtype", "tensors", "elements", "bytes", "", "share", ""];
    let mut table = Table::new(&heads, &[1, 2, 3, 4, 5]);
    let rows = totals
        .into_iter()
        .map(|(dtype, total)| (dtype.to_string(), total));
    for (name, total) in rows.chain([("all".to_owned(), all)]) {
        let share = total.share_of(all);
        let bar = match has_bars && name != "all" {
            true => "█".repeat((share * BAR).round() as usize),
            false => String::new(),
        };
        table.row(vec![
            name,
            total.tensors.to_string(),
            total.elements.to_string(),
            total.bytes.to_string(),
            Bytes(total.bytes).to_string(),
            format!("{:.1} %", share * 100.0),
            bar,
        ]);
    }
    writeln!(out)?;
    table.write(out)
}
