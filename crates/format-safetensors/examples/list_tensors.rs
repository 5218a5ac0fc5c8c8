//! Lists the tensors of a safetensors file: names, dtypes and shapes.
//!
//! ```console
//! cargo run -p tensorlift-format-safetensors --example list_tensors -- model.safetensors
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use tensorlift_format_safetensors::read;
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::Limits;

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
    let catalog = read(&FileStorage::open(path)?, &Limits::default())?;
    for entry in catalog.entries() {
        let (name, dtype, shape) = (entry.name(), entry.dtype(), entry.shape());
        writeln!(out, "{name}\t{dtype}\t{shape:?}")?;
    }
    Ok(())
}
