//! Loads a checkpoint to a GPU and shows the addresses of its tensors.
//!
//! `cargo run --release -p tensorlift --features cuda --example cuda -- fixtures/tiny-model`

use tensorlift::cuda::{CudaBuffer, CudaDevice};
use tensorlift::{Checkpoint, Result};

fn main() -> Result<()> {
    let target = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "fixtures/tiny-model".into());
    let device = CudaDevice::new(0)?;
    println!("{}", device.report()?);

    let checkpoint = Checkpoint::open(&target)?;
    let loaded = checkpoint.loader().place_on(device).load()?;
    for tensor in &loaded {
        let Some(buffer) = CudaBuffer::of(&**tensor.group()) else {
            continue;
        };
        let address = buffer.address() + tensor.offset() as u64;
        println!(
            "{address:#x} {} {} {:?}",
            tensor.name(),
            tensor.dtype(),
            tensor.shape()
        );
    }
    println!("{}", loaded.report());
    Ok(())
}
