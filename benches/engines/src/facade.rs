//! tensorlift as a user calls it.

use tensorlift::{Checkpoint, LoadOptions, LoadReport, Reader};
use tensorlift_bench_protocol::{Phase, Request, Result, measure};

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
            for tensor in loaded {
                // Views that are not contiguous have no bytes of their own.
                let tensor = tensor.to_contiguous()?;
                checksum.tensor(tensor.name(), tensor.as_bytes()?);
            }
            outcome.phases = phases(loaded.report());
            outcome.note = readers(loaded.report());
            Ok(())
        },
    )
}

pub(crate) fn phases(report: &LoadReport) -> Vec<Phase> {
    let phase = |(name, time): (&str, std::time::Duration)| Phase {
        name: name.to_owned(),
        seconds: time.as_secs_f64(),
    };
    report.phases.all().into_iter().map(phase).collect()
}

/// The readers that ran, and how many reads were in flight.
pub(crate) fn readers(report: &LoadReport) -> String {
    let mut readers: Vec<_> = report.files.iter().map(|file| file.reader).collect();
    readers.dedup();
    format!("{} x {}", readers.join(", "), report.threads)
}
