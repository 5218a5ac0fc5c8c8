//! Several loads in one process: at once, in turn, and into memory that was used before.

use std::path::{Path, PathBuf};
use std::thread;

use tensorlift::{Checkpoint, HostDevice, HostPool, Loaded};
use tensorlift_bench_protocol::{Checksum, Request, Result, measure};

/// Each file is a checkpoint of its own, loaded one after another.
pub(crate) fn in_turn(request: &Request) -> Result<()> {
    let load = || request.files()?.iter().map(|path| open(path)).collect();
    measure(request, load, |several: &Vec<_>, checksum, _| {
        sum(several, checksum)
    })
}

/// Each file is a checkpoint of its own, loaded by a thread of its own.
pub(crate) fn at_once(request: &Request) -> Result<()> {
    let load = |paths: &[PathBuf]| {
        thread::scope(|scope| {
            let threads = paths.iter().map(|path| scope.spawn(|| open(path)));
            let threads: Vec<_> = threads.collect();
            let ends = threads.into_iter().map(|thread| {
                let panicked = |_| Err("a thread panicked".into());
                thread.join().unwrap_or_else(panicked)
            });
            ends.collect()
        })
    };
    measure(
        request,
        || load(&request.files()?),
        |several: &Vec<_>, checksum, _| sum(several, checksum),
    )
}

/// The second load of a process that keeps the memory of dropped tensors.
pub(crate) fn again(request: &Request) -> Result<()> {
    let pool = HostPool::new(usize::MAX);
    let load = || {
        let host = HostDevice::new().with_pool(pool.clone());
        let checkpoint = Checkpoint::open(&request.path)?;
        Ok(vec![checkpoint.loader().place_on(host).load()?])
    };
    drop(load()?);
    measure(request, load, |several, checksum, _| sum(several, checksum))
}

fn open(path: &Path) -> Result<Loaded> {
    Ok(Checkpoint::open(path)?.loader().load()?)
}

fn sum(several: &[Loaded], checksum: &mut Checksum) -> Result<()> {
    for tensor in several.iter().flatten() {
        let tensor = tensor.to_contiguous()?;
        checksum.tensor(tensor.name(), tensor.as_bytes()?);
    }
    Ok(())
}
