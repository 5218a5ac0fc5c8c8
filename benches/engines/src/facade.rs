//! tensorlift as a user calls it.

use std::time::Duration;

use tensorlift::{Checkpoint, LoadOptions, LoadReport, Loaded, Reader, ReaderKind};
use tensorlift_bench_protocol::{Checksum, Phase, Request, Result, measure};

/// With a reader forced.
pub(crate) fn by(request: &Request, reader: Reader) -> Result<()> {
    run(request, LoadOptions::default().reader(reader))
}

pub(crate) fn run(request: &Request, options: LoadOptions) -> Result<()> {
    measure(
        request,
        || {
            let checkpoint = Checkpoint::open(&request.path)?;
            Ok(checkpoint.loader().options(options).load()?)
        },
        |loaded, checksum, outcome| {
            sum(loaded, checksum)?;
            outcome.phases = phases(loaded.report());
            outcome.note = readers(loaded.report());
            Ok(())
        },
    )
}

/// Sums up all tensors.
pub(crate) fn sum(loaded: &Loaded, checksum: &mut Checksum) -> Result<()> {
    for tensor in loaded {
        // Views that are not contiguous have no bytes of their own.
        let tensor = tensor.to_contiguous()?;
        checksum.tensor(tensor.name(), tensor.as_bytes()?);
    }
    Ok(())
}

pub(crate) fn phases(report: &LoadReport) -> Vec<Phase> {
    let phases = report.phases.all().into_iter();
    phases.map(|(name, time)| phase(name, time)).collect()
}

pub(crate) fn phase(name: &str, time: Duration) -> Phase {
    Phase {
        name: name.to_owned(),
        seconds: time.as_secs_f64(),
    }
}

/// The readers that ran, and how many reads were in flight.
pub(crate) fn readers(report: &LoadReport) -> String {
    let files = report.files.iter();
    let mut readers: Vec<_> = files
        .map(|file| file.reader.map_or("none", ReaderKind::name))
        .collect();
    readers.dedup();
    format!("{} x {}", readers.join(", "), report.threads)
}
