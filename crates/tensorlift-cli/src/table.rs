use std::io::{self, Write};

/// A number of things: `1 file`, `2 files`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Text in columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    /// Columns of numbers.
    right: Vec<usize>,
}

impl Table {
    pub(crate) fn new(heads: &[&str], right: &[usize]) -> Self {
        let mut table = Self {
            rows: Vec::new(),
            widths: vec![0; heads.len()],
            right: right.to_vec(),
        };
        table.row(heads.iter().map(|&head| head.to_owned()).collect());
        table
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&self.widths).enumerate() {
                match self.right.contains(&column) {
                    true => line += &format!("{cell:>width$}  "),
                    false => line += &format!("{cell:<width$}  "),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A name from a file, without control characters for terminals.
pub(crate) fn printable(name: &str) -> String {
    match name.chars().any(char::is_control) {
        true => name.escape_debug().to_string(),
        false => name.to_owned(),
    }
}
