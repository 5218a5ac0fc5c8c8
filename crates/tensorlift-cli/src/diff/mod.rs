//! Compares two checkpoints: by headers alone, or by values too.

mod headers;
mod numbers;
mod values;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tensorlift::{Bytes, Pattern};

use self::headers::{Changed, Headers};
use self::numbers::Tolerance;
use self::values::{Values, compare};
use crate::failure::Failure;
use crate::table::{Table, counted, printable};
use crate::target::{matching, no_match, open_path};

/// Names of a table or a list before the rest is counted.
const SHOWN: usize = 20;

#[derive(Args)]
pub(crate) struct Diff {
    /// A file, a folder, an index file, or a model in the Hugging Face cache
    a: PathBuf,
    /// Another one
    b: PathBuf,
    /// Compare the values of all tensors that both have in one shape; reads both checkpoints
    #[arg(long)]
    values: bool,
    /// Take values for equal that differ by no more than this
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.0,
        requires = "values",
        allow_negative_numbers = true,
        value_parser = tolerance
    )]
    atol: f64,
    /// Take values for equal that differ by no more than this share of the one of B
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.0,
        requires = "values",
        allow_negative_numbers = true,
        value_parser = tolerance
    )]
    rtol: f64,
    /// Compare only tensors whose names match; may be given several times
    #[arg(long, value_name = "PATTERN")]
    select: Vec<Pattern>,
    /// Take the tensors below this path of PyTorch files, named from there on; auto takes the one
    /// that is likely the model's
    #[arg(long, value_name = "PATH|auto")]
    root: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What differs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Difference {
    /// Whether nothing does.
    equal: bool,
    #[serde(flatten)]
    headers: Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Values>,
    #[serde(skip)]
    tolerance: Tolerance,
}

/// A distance, which cannot be negative.
fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..).contains(number));
    number.ok_or_else(|| "expected a number from 0 on, as in 1e-5".to_owned())
}

impl Diff {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let open = |path: &PathBuf| matching(open_path(path, self.root.as_deref())?, &self.select);
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        // One that has no such name lacks what the other has.
        if !self.select.is_empty() && a.catalog().is_empty() && b.catalog().is_empty() {
            return Err(no_match(&a, &self.select).into());
        }
        let headers = Headers::of(&a, &b);
        let tolerance = Tolerance {
            absolute: self.atol,
            relative: self.rtol,
        };
        let values = match self.values {
            true => Some(compare(&a, &b, tolerance)?),
            false => None,
        };
        let difference = Difference {
            equal: headers.is_empty() && values.as_ref().is_none_or(Values::is_equal),
            headers,
            values,
            tolerance,
        };
        match self.json {
            true => {
                serde_json::to_writer(&mut *out, &difference)?;
                writeln!(out)?;
            }
            false => difference.describe(out)?,
        }
        match difference.equal {
            true => Ok(()),
            false => Err(Failure::Differs),
        }
    }
}

impl Difference {
    fn describe(&self, out: &mut impl Write) -> io::Result<()> {
        let Headers {
            same,
            only_in_a,
            only_in_b,
            changed,
        } = &self.headers;
        write_names(out, "only in A", only_in_a)?;
        write_names(out, "only in B", only_in_b)?;
        if !changed.is_empty() {
            let mut table = Table::new(&["differ in dtype or shape", "A", "B"], &[]);
            for Changed { name, a, b } in changed.iter().take(SHOWN) {
                table.row(vec![printable(name), a.to_string(), b.to_string()]);
            }
            table.write(out)?;
            write_rest(out, changed.len())?;
        }
        writeln!(
            out,
            "{} with the same dtype and shape, {} with others, {} only in A, {} only in B",
            counted(*same, "tensor"),
            changed.len(),
            only_in_a.len(),
            only_in_b.len()
        )?;
        if let Some(values) = &self.values {
            describe_values(values, self.tolerance, out)?;
        }
        Ok(())
    }
}

fn describe_values(values: &Values, tolerance: Tolerance, out: &mut impl Write) -> io::Result<()> {
    let differing = &values.differing;
    if !differing.is_empty() {
        let heads = [
            "differ in values",
            "elements",
            "differing",
            "max absolute",
            "max relative",
        ];
        let mut table = Table::new(&heads, &[1, 2, 3, 4]);
        for tensor in differing.iter().take(SHOWN) {
            let number =
                |number: Option<f64>| number.map_or("-".into(), |number| format!("{number:.3e}"));
            table.row(vec![
                printable(&tensor.name),
                tensor.elements.to_string(),
                tensor.differing.to_string(),
                number(tensor.max_absolute),
                number(tensor.max_relative),
            ]);
        }
        table.write(out)?;
        write_rest(out, differing.len())?;
    }
    writeln!(
        out,
        "values of {} ({}) compared: {} equal{tolerance}, {} not",
        counted(values.compared, "tensor"),
        Bytes(values.bytes),
        values.compared - differing.len(),
        differing.len()
    )
}

/// How many lines of a table are not shown.
fn write_rest(out: &mut impl Write, all: usize) -> io::Result<()> {
    match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more; --json lists all"),
    }
}

fn write_names(out: &mut impl Write, what: &str, names: &[String]) -> io::Result<()> {
    for name in names.iter().take(SHOWN) {
        writeln!(out, "{what}: {}", printable(name))?;
    }
    write_rest(out, names.len())
}
