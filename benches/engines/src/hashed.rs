//! Loads that hash whole files while they read, and a program that does nothing but hash.

use std::process::{Command, Stdio};

use tensorlift::{Checkpoint, Extent, HashAlgorithm, HashRange, LoadOptions, Loaded, ShardId};
use tensorlift_bench_protocol::{Request, Result, measure};

use crate::facade;

/// A load that hashes every byte of its files.
pub(crate) fn load(request: &Request, algorithm: HashAlgorithm) -> Result<()> {
    let load = || -> Result<Loaded> {
        let checkpoint = Checkpoint::open(&request.path)?;
        let mut ranges = Vec::new();
        for (shard, path) in checkpoint.files().enumerate() {
            let whole = Extent::new(ShardId(u32::try_from(shard)?), 0, path.metadata()?.len());
            ranges.push(HashRange::new(whole, algorithm));
        }
        let options = LoadOptions::default().hashes(ranges);
        Ok(checkpoint.loader().options(options).load()?)
    };
    measure(request, load, |loaded, checksum, outcome| {
        facade::sum(loaded, checksum)?;
        outcome.note = facade::readers(loaded.report());
        Ok(())
    })
}

/// `openssl sha256` of the largest file: what a hash that is a chain cannot be faster than.
pub(crate) fn openssl(request: &Request) -> Result<()> {
    let hash = || -> Result<()> {
        let mut largest = None;
        for path in request.files()? {
            largest = largest.max(Some((path.metadata()?.len(), path)));
        }
        let (_, path) = largest.ok_or("there is no file")?;
        let mut openssl = Command::new("openssl");
        let openssl = openssl.args(["dgst", "-sha256"]).arg(path);
        match openssl.stdout(Stdio::null()).status()?.success() {
            true => Ok(()),
            false => Err("openssl failed".into()),
        }
    };
    // It loads nothing: the tensors that are summed up are loaded after the clock has stopped.
    measure(request, hash, |(), checksum, _| {
        facade::sum(&Checkpoint::open(&request.path)?.loader().load()?, checksum)
    })
}
