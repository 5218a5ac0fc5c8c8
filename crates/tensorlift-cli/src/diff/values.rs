//! Comparing the bytes of two checkpoints, with little memory whatever their size.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;
use serde::Serialize;
use tensorlift::{Checkpoint, Entry, Error, HostDevice, HostPool, Loaded, Result, Slice, Tensor};

use super::numbers::{Distance, Tolerance};
use crate::batches::{has_bytes, split};
use crate::progress::Bar;

/// The most bytes of one checkpoint that are compared at once; two such batches of each are in
/// memory, one that is compared and one that is read.
const BATCH_BYTES: u64 = 64 << 20;
/// Memory of batches that were compared, for those that are read next: fresh memory would take
/// longer to clear than to fill.
const KEPT_BYTES: usize = 4 * BATCH_BYTES as usize;
/// Tensors beyond this are compared in parts, as far as rows allow.
const PART_BYTES: u64 = 16 << 20;

/// What comparing values found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Values {
    /// Tensors that both have in one shape.
    pub(super) compared: usize,
    /// Bytes of both.
    pub(super) bytes: u64,
    /// Those of which an element differs, the farthest apart first.
    pub(super) differing: Vec<Differing>,
}

/// A tensor of which an element differs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Differing {
    pub(super) name: String,
    pub(super) elements: u64,
    pub(super) differing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_absolute: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_relative: Option<f64>,
}

impl Values {
    pub(super) fn is_equal(&self) -> bool {
        self.differing.is_empty()
    }
}

/// A tensor that both have.
struct Pair<'a> {
    a: &'a Entry,
    b: &'a Entry,
}

/// Compares all tensors that both have with bytes and in one shape.
pub(super) fn compare(a: &Checkpoint, b: &Checkpoint, tolerance: Tolerance) -> Result<Values> {
    let pairs = pairs(a, b);
    let numbers: HashMap<&str, usize> = pairs.iter().map(|pair| pair.a.name()).zip(0..).collect();
    let (one, other) = (divided(a, &numbers, &pairs)?, divided(b, &numbers, &pairs)?);
    let batches = batches(&one, &other);
    let bytes = pairs
        .iter()
        .flat_map(|pair| [pair.a.byte_len(), pair.b.byte_len()])
        // Views that repeat elements may have more bytes than there are numbers for.
        .fold(0, u64::saturating_add);
    let bar = Bar::of(bytes);
    let mut distances = vec![Distance::default(); pairs.len()];
    let pool = rayon::ThreadPoolBuilder::new().build().ok();
    let mut done = 0;
    let mut add = |(one, other): (Loaded, Loaded)| {
        let distance = |name: &&str| {
            let (one, other) = (one.tensor(name)?, other.tensor(name)?);
            let sides = (one.dtype(), one.as_bytes()?);
            let others = (other.dtype(), other.as_bytes()?);
            Ok::<_, Error>((number(name), Distance::between(sides, others, tolerance)))
        };
        let names: Vec<&str> = one.tensors().iter().map(Tensor::name).collect();
        let found: Vec<(usize, Distance)> = match &pool {
            Some(pool) => pool.install(|| names.par_iter().map(distance).collect::<Result<_>>())?,
            None => names.iter().map(distance).collect::<Result<_>>()?,
        };
        for (pair, distance) in found {
            distances[pair] = distances[pair].join(distance);
        }
        done += one.report().bytes_wanted + other.report().bytes_wanted;
        bar.set(done);
        Ok::<_, Error>(())
    };
    let (one, other, batches) = (&one, &other, &batches);
    let device = &HostDevice::new().with_pool(HostPool::new(KEPT_BYTES));
    std::thread::scope(|scope| {
        // One batch waits while the next is read.
        let (sender, receiver) = sync_channel(0);
        let read_all = move || {
            for batch in batches {
                let read = load_both(one, other, batch, device);
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        };
        match std::thread::Builder::new().spawn_scoped(scope, read_all) {
            Ok(_) => receiver.into_iter().try_for_each(|read| add(read?)),
            // The system refuses a thread: reading and comparing take turns.
            Err(_) => batches
                .iter()
                .try_for_each(|batch| add(load_both(one, other, batch, device)?)),
        }
    })?;
    Ok(Values {
        compared: pairs.len(),
        bytes,
        differing: differing(&pairs, &distances),
    })
}

/// Tensors that both have in one shape, by their place in the files of A.
fn pairs<'a>(a: &'a Checkpoint, b: &'a Checkpoint) -> Vec<Pair<'a>> {
    let pair = |entry: &'a Entry| {
        let other = b.catalog().get(entry.name())?;
        let have_bytes = has_bytes(a, entry) && has_bytes(b, other);
        (have_bytes && entry.shape() == other.shape()).then_some(Pair { a: entry, b: other })
    };
    let mut pairs: Vec<Pair<'_>> = a.catalog().entries().iter().filter_map(pair).collect();
    pairs.sort_by_key(|pair| pair.a.extent());
    pairs
}

/// The checkpoint with the tensors that are compared, named by number, and large ones in parts.
fn divided(
    checkpoint: &Checkpoint,
    numbers: &HashMap<&str, usize>,
    pairs: &[Pair<'_>],
) -> Result<Checkpoint> {
    let numbered = checkpoint.renamed(|entry| {
        let number = numbers.get(entry.name())?;
        Some(number.to_string())
    })?;
    numbered.divided(|entry| {
        let Pair { a, b } = pairs[number(entry.name())];
        let rows = *entry.shape().first()?;
        let bytes = a.byte_len().max(b.byte_len());
        let is_packed = a.dtype().byte_len().is_none() || b.dtype().byte_len().is_none();
        if is_packed || bytes <= PART_BYTES || rows < 2 {
            return None;
        }
        let parts = bytes.div_ceil(PART_BYTES).min(rows as u64) as usize;
        let part = |part: usize| {
            let name = format!("{}.{part}", entry.name());
            (name, Slice::rank(0, part, parts))
        };
        Some((0..parts).map(part).collect::<Vec<_>>())
    })
}

/// The number of the pair that a name belongs to.
fn number(name: &str) -> usize {
    let number = name.split('.').next().unwrap_or_default();
    // All names are made by `divided`.
    number.parse().unwrap_or_default()
}

/// Names that are read together, in the order of the files of A.
fn batches(a: &Checkpoint, b: &Checkpoint) -> Vec<Vec<String>> {
    let mut entries: Vec<&Entry> = a.catalog().entries().iter().collect();
    entries.sort_by_key(|entry| entry.extent());
    let larger = |entry: &&Entry| {
        let other = b.catalog().get(entry.name()).map_or(0, Entry::byte_len);
        entry.byte_len().max(other)
    };
    let names = |batch: Range<usize>| entries[batch].iter().map(|entry| entry.name().to_owned());
    split(entries.iter().map(larger), BATCH_BYTES)
        .into_iter()
        .map(|batch| names(batch).collect())
        .collect()
}

fn load_both(
    a: &Checkpoint,
    b: &Checkpoint,
    names: &[String],
    device: &HostDevice,
) -> Result<(Loaded, Loaded)> {
    let load = |checkpoint: &Checkpoint| {
        let loader = checkpoint.loader().place_on(device.clone());
        loader.select_names(names).load()
    };
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new().spawn_scoped(scope, || load(b));
        let one = load(a);
        let other = match other {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The system refuses more threads: one after the other.
            Err(_) => load(b),
        };
        Ok((one?, other?))
    })
}

/// Tensors of which an element differs, the farthest apart first.
fn differing(pairs: &[Pair<'_>], distances: &[Distance]) -> Vec<Differing> {
    let differing = pairs.iter().zip(distances);
    let differing = differing.filter(|(_, distance)| distance.differing > 0);
    let mut differing: Vec<Differing> = differing
        .map(|(pair, distance)| Differing {
            name: pair.a.name().to_owned(),
            elements: pair.a.layout().elements() as u64,
            differing: distance.differing,
            max_absolute: distance.max_absolute,
            max_relative: distance.max_relative,
        })
        .collect();
    let apart = |tensor: &Differing| tensor.max_absolute.unwrap_or(f64::INFINITY);
    differing.sort_by(|one, other| apart(other).total_cmp(&apart(one)));
    differing
}
