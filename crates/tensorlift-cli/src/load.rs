use std::io::Write;

use clap::Args;
use serde::Serialize;
use tensorlift::trust::Expected;
use tensorlift::{Bytes, Checkpoint, FileReport, LoadReport, Loader, Plan, ReaderKind, Verify};

use crate::Target;
use crate::device::DeviceArg;
use crate::failure::Failure;
use crate::plan::write_plan;
use crate::progress::Bar;
use crate::settings::SettingArgs;
use crate::table::printable;
use crate::target::root_hint;
use crate::trust::TrustArgs;

#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    settings: SettingArgs<false>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    trust: TrustArgs,
    /// Before loading, show the plan, what was probed and which reader each file gets; with
    /// --json, as an object on a separate line
    #[arg(long)]
    explain: bool,
}

/// What a load is going to do.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Explanation {
    plan: Plan,
    /// How each shard would be read, in the order in which the plan counts them.
    files: Vec<FileReport>,
}

impl Load {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let settings = self.settings.settings()?;
        let device = DeviceArg::of(&settings).name(settings.gds())?;
        let checkpoint = self.target.open_by(&settings)?;
        if let Some(hint) = root_hint(&checkpoint) {
            eprintln!("note: {hint}");
        }
        let loader = checkpoint.loader().settings(&settings);
        let mut loader = loader.place(device.placement());
        if self.explain {
            self.explain(out, &checkpoint, &loader)?;
        }
        let expected = self.expected(&checkpoint, settings.options().verify)?;
        if let Some(expected) = &expected {
            loader = loader.expect(expected.clone());
        }
        let bar = Bar::start();
        let loaded = loader.control(bar.control()).load();
        drop(bar);
        let loaded = loaded?;
        device.log();
        if self.json {
            serde_json::to_writer(&mut *out, loaded.report())?;
            writeln!(out)?;
        } else {
            write_report(out, loaded.report(), expected.as_ref())?;
        }
        if let Some(expected) = &expected {
            for (path, why) in expected.unverifiable(&checkpoint) {
                let path = printable(&path.display().to_string());
                eprintln!("note: {path} was not verified: {why}");
            }
        }
        Ok(())
    }

    /// What the files must be, if that is to be checked and something says it.
    fn expected(
        &self,
        checkpoint: &Checkpoint,
        verify: Verify,
    ) -> Result<Option<Expected>, Failure> {
        let asked_for = self.trust.of_checkpoint(checkpoint)?;
        if asked_for.is_some() || verify == Verify::Nothing {
            return Ok(asked_for);
        }
        let of_blobs = Expected::from_hub(checkpoint.files());
        Ok(Some(of_blobs).filter(|expected| !expected.is_empty()))
    }

    fn explain(
        &self,
        out: &mut impl Write,
        checkpoint: &Checkpoint,
        loader: &Loader<'_>,
    ) -> Result<(), Failure> {
        let (plan, files) = (loader.plan()?, loader.probe()?);
        if self.json {
            serde_json::to_writer(&mut *out, &Explanation { plan, files })?;
            writeln!(out)?;
            return Ok(());
        }
        write_plan(out, checkpoint, &plan)?;
        for file in &files {
            write_file(out, file)?;
            writeln!(out, "  starts with {} reads in flight", file.first_threads)?;
        }
        Ok(())
    }
}

/// The report in one line, then the choices for each file with their reasons.
fn write_report(
    out: &mut impl Write,
    report: &LoadReport,
    expected: Option<&Expected>,
) -> std::io::Result<()> {
    writeln!(out, "{report}")?;
    for step in &report.steps {
        let rate = step.bytes_per_second / 1e9;
        writeln!(out, "{} reads in flight: {rate:.2} GB/s", step.threads)?;
    }
    if let (Some(hashed), Some(expected)) = (&report.hashed, expected) {
        let (matched, bytes) = (hashed.matched, Bytes(hashed.bytes));
        match matched {
            1 => write!(out, "1 hash ({bytes}) matches")?,
            _ => write!(out, "{matched} hashes ({bytes}) match")?,
        }
        writeln!(out, " {}", expected.source())?;
    }
    if let Some(verified) = report.verified {
        let (records, bytes) = (verified.records, Bytes(verified.bytes));
        match records {
            0 => write!(out, "no CRC-32 was checked")?,
            1 => write!(out, "CRC-32 of 1 record ({bytes}) matches")?,
            _ => write!(out, "CRC-32 of {records} records ({bytes}) matches")?,
        }
        if verified.records_in_part > 0 {
            let part = verified.records_in_part;
            write!(out, "; records read in part and not checked: {part}")?;
        }
        match verified.without_sums {
            true if records == 0 => writeln!(out, ": the files store none")?,
            true => writeln!(out, "; some files store none")?,
            false => writeln!(out)?,
        }
    }
    report
        .files
        .iter()
        .try_for_each(|file| write_file(out, file))
}

fn write_file(out: &mut impl Write, file: &FileReport) -> std::io::Result<()> {
    write!(
        out,
        "{}: {}, read by {}",
        printable(&file.path.display().to_string()),
        file.format,
        file.reader.map_or("none", ReaderKind::name)
    )?;
    if let Some(cached) = file.cached_before {
        write!(
            out,
            ", {:.0} % in the page cache before",
            cached.share() * 100.0
        )?;
    }
    if file.pulled_by_device {
        write!(out, ", in part by the device itself")?;
    }
    writeln!(out)?;
    for other in &file.refused {
        writeln!(out, "  {} not used: {}", other.reader, other.why)?;
    }
    Ok(())
}
