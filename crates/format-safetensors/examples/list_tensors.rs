//! Lists the tensors of a safetensors file: `cargo run --example list_tensors -- FILE`.

use std::error::Error;

use tensorlift_format_safetensors::read;
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::Limits;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("expected the path of a file")?;
    let catalog = read(&FileStorage::open(path)?, &Limits::default())?;
    for entry in catalog.entries() {
        println!("{}\t{}\t{:?}", entry.name(), entry.dtype(), entry.shape());
    }
    Ok(())
}
