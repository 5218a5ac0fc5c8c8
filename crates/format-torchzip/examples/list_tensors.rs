//! Lists the tensors of a PyTorch file: names, dtypes, shapes and where their bytes lie.
//!
//! ```console
//! cargo run -p tensorlift-format-torchzip --example list_tensors -- model.pt
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use tensorlift_format_torchzip::{ReadOptions, read};
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::Source;

fn main() -> ExitCode {
    match list(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("give the path of a file")?;
    let storage = FileStorage::open(path)?;
    let file = read(&storage, &ReadOptions::default())?;
    let catalog = file.catalog();
    for entry in catalog.entries() {
        let place = match &catalog.record(entry).source {
            Source::Stored(extent) => format!("bytes {}..{}", extent.offset, extent.end()),
            Source::Deflated { .. } => "compressed".to_owned(),
            Source::Inline { .. } => "within the pickle".to_owned(),
            _ => "no bytes".to_owned(),
        };
        let (name, dtype, shape) = (entry.name(), entry.dtype(), entry.shape());
        writeln!(out, "{name} {dtype}{shape:?} {place}")?;
    }
    let (count, format) = (catalog.entries().len(), file.format());
    writeln!(out, "{count} tensors, {format}")?;
    let root = file.automatic_root();
    writeln!(out, "the model begins at {:?}", root.prefix())?;
    for other in file.other_models() {
        writeln!(out, "{:?} could be a model too", other.prefix())?;
    }
    Ok(())
}
