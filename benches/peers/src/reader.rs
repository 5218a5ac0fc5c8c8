//! pytorch-reader, which burn reads PyTorch files with.

use pytorch_reader::PytorchReader;
use tensorlift_bench_protocol::{Request, Result, measure};

pub(crate) fn run(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let mut tensors = Vec::new();
            for path in request.files()? {
                for (name, tensor) in PytorchReader::new(path)?.into_tensors() {
                    tensors.push((name, tensor.read()?));
                }
            }
            Ok(tensors)
        },
        |tensors: &Vec<(String, Vec<u8>)>, checksum, _| {
            for (name, bytes) in tensors {
                checksum.tensor(name, bytes);
            }
            Ok(())
        },
    )
}
