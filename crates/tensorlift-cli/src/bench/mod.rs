//! Measures loads of one checkpoint on this machine, setting by setting.

mod candidates;
mod output;
mod rounds;
mod verdict;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tensorlift::{Error, ErrorKind, os};

use crate::device::DeviceArg;
use crate::doctor;
use crate::failure::Failure;
use crate::interrupt;
use crate::settings::SettingArgs;
use crate::target::Target;
use candidates::{Axis, Candidate};
use output::Output;
use rounds::{Measured, Rounds};
use verdict::Verdict;

#[cfg(test)]
pub(crate) use output::Line;

#[derive(Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    settings: SettingArgs<false>,
    /// Loads by each setting, in turn with all others; the median counts
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Measure only loads that begin so; both by default
    #[arg(long, value_enum)]
    start: Option<Start>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the files are when a load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    /// In the page cache
    Warm,
    /// On the disk alone: dropped from the page cache before each load, and checked to be gone
    Cold,
}

impl Bench {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let settings = self.settings.settings()?;
        let device = DeviceArg::of(&settings).name(settings.gds())?;
        let checkpoint = self.target.open_by(&settings)?;
        checkpoint.require_tensors()?;
        let files: Vec<PathBuf> = checkpoint.files().map(ToOwned::to_owned).collect();
        let bytes = file_bytes(&files)?;
        let mut output = Output::new(out, self.json);
        if let Some(file) = files.first() {
            output.machine(&doctor::of_host(file))?;
        }
        // What loads share is made before the first of them.
        if device.is_staged() {
            device.device().reserve(bytes).map_err(Error::from)?;
        }
        let rounds = Rounds {
            checkpoint: &checkpoint,
            device: &device,
            files: &files,
            bytes,
            count: usize::from(self.rounds),
            cancel: interrupt::token(),
        };
        if let Some(started) = device.started()? {
            output.device(&started)?;
        }
        let fits = os::available_memory().is_none_or(|available| bytes < available);
        for start in [Start::Warm, Start::Cold] {
            if self.start.is_none_or(|only| only == start) {
                let candidates = candidates::all(&settings, &device, start, bytes, fits)?;
                measure(&rounds, start, candidates, &mut output)?;
            }
        }
        Ok(())
    }
}

/// Measures all candidates, then what is best of several axes together; what is known is printed,
/// also after an interruption.
fn measure(
    rounds: &Rounds<'_>,
    start: Start,
    candidates: Vec<Candidate>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut all = Vec::new();
    let ended = rounds
        .run(start, candidates, &mut all)
        .and_then(|why| match why {
            Some(why) => Ok(Some(why)),
            None => together(rounds, start, &mut all),
        });
    output.measured(start, &all)?;
    if let Some(verdict) = Verdict::of(start, &all) {
        output.best(&verdict)?;
    }
    match ended {
        Ok(None) => Ok(()),
        // The other start may be had.
        Ok(Some(why)) => Ok(output.not_run(start, &why)?),
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            let ended = "interrupted; what was measured is printed";
            Err(Error::new(ErrorKind::Cancelled, ended).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Measures what is best of several axes, beside the defaults once more: the machine may have
/// changed meanwhile.
fn together(
    rounds: &Rounds<'_>,
    start: Start,
    all: &mut Vec<Measured>,
) -> tensorlift::Result<Option<String>> {
    let defaults = all.iter().map(|it| &it.candidate);
    let defaults = defaults.filter(|it| it.axis == Axis::Defaults).cloned();
    let Some(together) = Candidate::together(&verdict::winners(all))? else {
        return Ok(None);
    };
    let again: Vec<Candidate> = defaults.chain([together]).collect();
    rounds.run(start, again, all)
}

fn file_bytes(files: &[PathBuf]) -> tensorlift::Result<u64> {
    let len = |file: &PathBuf| {
        let metadata = file.metadata();
        metadata.map_err(|error| Error::new(ErrorKind::Storage, error).with_path(file))
    };
    files.iter().map(|file| Ok(len(file)?.len())).sum()
}
