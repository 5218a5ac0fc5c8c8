use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use tensorlift::trust::{CheckedFile, Comparison, check};
use tensorlift::{Bytes, LoadOptions};
use tensorlift_shard_index::{ResolveOptions, Route, resolve};

use crate::failure::Failure;
use crate::progress::Bar;
use crate::table::{counted, printable};
use crate::target::folder_of;
use crate::trust::{Claim, TrustArgs};

#[derive(Args)]
pub(crate) struct VerifyFiles {
    /// A file, a folder, or a model in the Hugging Face cache (org/name[@revision])
    path: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print one JSON object for each file, a line each
    #[arg(long)]
    pub(crate) json: bool,
}

impl VerifyFiles {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let path = self.found()?;
        let (folder, file) = match path.is_dir() {
            true => (path.as_path(), None),
            false => (folder_of(&path), Some(path.as_path())),
        };
        let Claim { expected, present } = self.trust.of_files(folder, file)?;
        let bar = Bar::start();
        let checked = check(&expected, &present, &LoadOptions::default(), &bar.control())?;
        drop(bar);
        for file in &checked {
            match self.json {
                true => {
                    serde_json::to_writer(&mut *out, file)?;
                    writeln!(out)?;
                }
                false => writeln!(out, "{}", line(file))?,
            }
        }
        let right = checked
            .iter()
            .filter(|file| file.comparison.is_right())
            .count();
        if !self.json {
            let all = counted(checked.len(), "file");
            writeln!(out, "{right} of {all} match {}", expected.source())?;
        }
        match checked.iter().find_map(CheckedFile::error) {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }

    /// The path, or the folder of a model in the Hugging Face cache.
    fn found(&self) -> Result<PathBuf, Failure> {
        if self.path.exists() {
            return Ok(self.path.clone());
        }
        let resolved =
            resolve(&self.path, &ResolveOptions::new()).map_err(tensorlift::Error::from)?;
        Ok(match resolved.choice.route {
            Route::Hub(entry) => entry.snapshot,
            _ => resolved.choice.chosen,
        })
    }
}

fn line(file: &CheckedFile) -> String {
    let name = printable(&file.path.display().to_string());
    let algorithm = file.algorithm.map_or("", |algorithm| algorithm.name());
    match &file.comparison {
        Comparison::Right { bytes } => format!("ok     {name}: {algorithm} of {}", Bytes(*bytes)),
        Comparison::Wrong {
            expected,
            found,
            tensors,
        } => {
            let tensors = match tensors.len() {
                0 => String::new(),
                _ => format!("; tensors that differ: {}", printable(&tensors.join(", "))),
            };
            format!("WRONG  {name}: {algorithm} {found}, expected {expected}{tensors}")
        }
        Comparison::WrongLength { expected, found } => {
            format!("WRONG  {name}: {found} bytes, expected {expected}")
        }
        Comparison::Missing { why } => format!("WRONG  {name}: {why}"),
        Comparison::Unexpected => format!("WRONG  {name}: not in the list"),
        Comparison::Unverifiable { why } => format!("?      {name}: {why}"),
        _ => format!("?      {name}"),
    }
}
