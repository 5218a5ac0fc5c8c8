//! Lists the tensors of a PyTorch file: names, dtypes, shapes and where their bytes lie.
//!
//! ```console
//! cargo run -p tensorlift-format-torchzip --example list_tensors -- model.pt
//! ```

use tensorlift_format_torchzip::{ReadOptions, read};
use tensorlift_storage::FileStorage;
use tensorlift_tensor_meta::Source;

fn main() -> Result<(), Box<dyn std::error::Error>> {
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
        println!(
            "{} {}{:?} {place}",
            entry.name(),
            entry.dtype(),
            entry.shape()
        );
    }
    println!("{} tensors, {}", catalog.entries().len(), file.format());
    println!("the model begins at {:?}", file.automatic_root().prefix());
    for other in file.other_models() {
        println!("{:?} could be a model too", other.prefix());
    }
    Ok(())
}
