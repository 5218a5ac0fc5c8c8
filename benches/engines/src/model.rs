//! A model from nothing: a skeleton whose parameters are allocated once, already full.

use tensorlift::skeleton::{FillRules, Skeleton};
use tensorlift::{Catalog, Checkpoint, Dtype, Loaded};
use tensorlift_bench_protocol::{Request, Result, measure};

use crate::facade::{phases, readers, sum};

/// In the dtypes of the file.
pub(crate) fn filled(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let checkpoint = Checkpoint::open(&request.path)?;
            let skeleton = Skeleton::from_catalog(checkpoint.catalog());
            Ok(checkpoint.loader().fill(&skeleton)?)
        },
        |loaded, checksum, outcome| {
            sum(loaded, checksum)?;
            outcome.phases = phases(loaded.report());
            outcome.note = readers(loaded.report());
            Ok(())
        },
    )
}

/// In F32, from BF16.
pub(crate) fn filled_as_f32(request: &Request) -> Result<()> {
    measure(
        request,
        || {
            let checkpoint = Checkpoint::open(&request.path)?;
            let skeleton = as_f32(checkpoint.catalog())?;
            let rules = FillRules::new().convert();
            let loaded = checkpoint.loader().fill_by(&skeleton, &rules)?;
            Ok((checkpoint, loaded))
        },
        |(checkpoint, loaded), checksum, outcome| {
            for tensor in loaded {
                let stored = checkpoint.catalog().get(tensor.name());
                let stored = stored.ok_or("a tensor that the checkpoint lacks")?.dtype();
                checksum.tensor(tensor.name(), &narrowed(tensor.as_bytes()?, stored));
            }
            outcome.phases = phases(Loaded::report(loaded));
            outcome.note = readers(loaded.report());
            Ok(())
        },
    )
}

/// The parameters of a catalog, those of BF16 in F32.
fn as_f32(catalog: &Catalog) -> Result<Skeleton> {
    let mut skeleton = Skeleton::new();
    for entry in catalog.entries() {
        let dtype = match entry.dtype() {
            Dtype::BF16 => Dtype::F32,
            dtype => dtype,
        };
        skeleton.add(entry.name(), entry.shape(), Some(dtype))?;
    }
    Ok(skeleton)
}

/// The bytes that elements had before BF16 became F32: the upper halves.
fn narrowed(bytes: &[u8], stored: Dtype) -> Vec<u8> {
    match stored {
        Dtype::BF16 => bytes
            .chunks_exact(4)
            .flat_map(|it| [it[2], it[3]])
            .collect(),
        _ => bytes.to_vec(),
    }
}
