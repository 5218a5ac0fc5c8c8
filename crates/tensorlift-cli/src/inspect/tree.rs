//! Tensors by the modules in their names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use tensorlift::{Bytes, Dtype, Entry};

use crate::table::{Table, printable};

/// Parts of a name that are shown.
const MOST_PARTS: usize = 64;

/// A module and all below it.
#[derive(Default)]
struct Module<'a> {
    below: BTreeMap<Part<'a>, Module<'a>>,
    tensors: u64,
    elements: u64,
    bytes: u64,
    dtypes: BTreeSet<Dtype>,
}

/// A part of a name; numbers are in their order, before other parts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64, &'a str),
    Name(&'a str),
}

/// Writes a line for each module, down to `depth` parts of names; tensors are the last ones.
pub(super) fn write_tree(
    out: &mut impl Write,
    entries: &[Entry],
    depth: Option<usize>,
) -> io::Result<()> {
    // Names come from files, and one of very many parts is not worth as many lines.
    let depth = depth.map_or(MOST_PARTS, |depth| depth.min(MOST_PARTS));
    let mut root = Module::default();
    for entry in entries {
        root.add(entry, entry.name().split('.'), depth);
    }
    let mut table = Table::new(
        &["name", "tensors", "elements", "bytes", "dtypes"],
        &[1, 2, 3],
    );
    root.rows("all", 0, &mut table);
    table.write(out)
}

impl<'a> Module<'a> {
    fn add(&mut self, entry: &Entry, mut parts: impl Iterator<Item = &'a str>, depth: usize) {
        self.tensors += 1;
        self.elements = self
            .elements
            .saturating_add(entry.layout().elements() as u64);
        self.bytes = self.bytes.saturating_add(entry.byte_len());
        self.dtypes.insert(entry.dtype());
        if let Some(part) = parts.next().filter(|_| depth > 0) {
            let below = self.below.entry(Part::new(part)).or_default();
            // A trait object, or each part would be a type of its own.
            below.add(
                entry,
                &mut parts as &mut dyn Iterator<Item = &'a str>,
                depth - 1,
            );
        }
    }

    fn rows(&self, name: &str, indent: usize, table: &mut Table) {
        let dtypes: Vec<String> = self.dtypes.iter().map(ToString::to_string).collect();
        table.row(vec![
            format!("{}{}", "  ".repeat(indent), printable(name)),
            self.tensors.to_string(),
            self.elements.to_string(),
            Bytes(self.bytes).to_string(),
            dtypes.join(", "),
        ]);
        for (part, module) in &self.below {
            // A chain of modules with nothing beside is one line.
            let (mut name, mut module) = (part.text().to_owned(), module);
            while let (1, Some((part, only))) = (module.below.len(), module.below.iter().next())
                && only.tensors == module.tensors
            {
                name = format!("{name}.{}", part.text());
                module = only;
            }
            module.rows(&name, indent + 1, table);
        }
    }
}

impl<'a> Part<'a> {
    fn new(text: &'a str) -> Self {
        match text.parse() {
            Ok(number) => Part::Number(number, text),
            Err(_) => Part::Name(text),
        }
    }

    fn text(&self) -> &'a str {
        match self {
            Part::Number(_, text) | Part::Name(text) => text,
        }
    }
}
