//! Several loads in one process: at once, in turn, and into memory that was used before.

use std::path::{Path, PathBuf};
use std::thread;

use tensorlift::{Checkpoint, HostDevice, HostPool, Loaded};
use tensorlift_bench_protocol::{Request, Result, measure};

use crate::facade;

/// Each file is a checkpoint of its own, loaded one after another.
pub(crate) fn in_turn(request: &Request) -> Result<()> {
    let load = || request.files()?.iter().map(|path| open(path)).collect();
    finish(request, load)
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
    finish(request, || load(&request.files()?))
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
    finish(request, load)
}

fn open(path: &Path) -> Result<Loaded> {
    Ok(Checkpoint::open(path)?.loader().load()?)
}

fn finish(request: &Request, load: impl FnOnce() -> Result<Vec<Loaded>>) -> Result<()> {
    measure(request, load, |several, checksum, _| {
        several
            .iter()
            .try_for_each(|loaded| facade::sum(loaded, checksum))
    })
}
