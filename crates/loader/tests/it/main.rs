//! Planning and execution, compared with the plainest way to do the same.

mod budgets;
mod device_map;
mod dtype;
mod each;
mod faults;
#[cfg(target_os = "linux")]
mod files;
mod hashes;
mod into;
#[cfg(target_os = "linux")]
mod limits;
mod naive;
mod pace;
mod planning;
mod shares;
mod tensors;
mod verify;

use std::sync::Arc;

use proptest::prelude::*;
use tensorlift_device::Device;
use tensorlift_loader::{Control, LoadOptions, Loaded, Shard, execute, plan};
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::{
    ByteOrder, Catalog, Dtype, Error, Extent, Layout, Record, ShardId, Source, View,
};

/// A checkpoint made up in memory.
#[derive(Clone, Debug)]
struct Sample {
    catalog: Catalog,
    shards: Vec<Vec<u8>>,
}

impl Sample {
    fn shards(&self) -> Vec<Shard> {
        self.shards_through(|storage| Arc::new(storage))
    }

    /// The shards, each behind a storage made by `wrap`.
    fn shards_through(&self, wrap: impl Fn(MemoryStorage) -> Arc<dyn Storage>) -> Vec<Shard> {
        let shard = |(index, bytes): (usize, &Vec<u8>)| {
            Shard::new(
                format!("shard-{index}"),
                wrap(MemoryStorage::new(bytes.clone())),
            )
        };
        self.shards.iter().enumerate().map(shard).collect()
    }

    /// Loads everything to one device.
    fn load(
        &self,
        shards: &[Shard],
        device: impl Device + 'static,
        options: &LoadOptions,
    ) -> Result<Loaded, Error> {
        self.load_controlled(shards, device, options, &Control::default())
    }

    fn load_controlled(
        &self,
        shards: &[Shard],
        device: impl Device + 'static,
        options: &LoadOptions,
        control: &Control,
    ) -> Result<Loaded, Error> {
        let device: Arc<dyn Device> = Arc::new(device);
        let plan = plan(&self.catalog, |_| Some(0), &[device.rules()], options)?;
        let filled = execute(&plan, &self.catalog, shards, &[device], options, control)?;
        let catalog = Arc::new(self.catalog.clone());
        let report = filled.outcome.report(&plan, &self.catalog);
        Ok(Loaded::new(catalog, plan, filled, report))
    }
}

/// Bytes that tell where they are.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

/// One record of 4 KiB and more with a few views of all kinds, in one of two shards.
#[derive(Clone, Debug)]
struct SampleEntry {
    shard: bool,
    dtype: usize,
    shape: Vec<usize>,
    strides: Option<Vec<usize>>,
    /// Bytes between the entry before it and this one.
    gap: usize,
    /// Looks at the record before it instead of at one of its own.
    shares: bool,
    encoding: u8,
    big: bool,
    conjugated: bool,
    negated: bool,
}

fn sample_entry() -> impl Strategy<Value = SampleEntry> {
    let shape = proptest::collection::vec(0usize..7, 0..4);
    let strides = proptest::option::weighted(0.3, proptest::collection::vec(0usize..9, 3));
    let flags = (
        any::<bool>(),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
    );
    let gap = prop_oneof![Just(0usize), 0usize..40, 0usize..9000];
    (shape, strides, flags, 0..Dtype::ALL.len(), gap, 0u8..20).prop_map(
        |(shape, strides, (shard, shares, big, conjugated, negated), dtype, gap, encoding)| {
            let strides = strides.map(|strides| strides[..shape.len().min(3)].to_vec());
            SampleEntry {
                shard,
                dtype,
                shape,
                strides,
                gap,
                shares,
                encoding,
                big,
                conjugated,
                negated,
            }
        },
    )
}

/// Checkpoints with everything that a catalog can say.
fn samples() -> impl Strategy<Value = Sample> {
    (
        proptest::collection::vec(sample_entry(), 0..30),
        any::<u64>(),
    )
        .prop_map(|(entries, seed)| build(entries, seed))
}

fn build(entries: Vec<SampleEntry>, seed: u64) -> Sample {
    let mut builder = Catalog::builder();
    let mut shards = vec![pattern(13, seed), pattern(64, seed + 1)];
    let mut last = None;
    for (index, sample) in entries.into_iter().enumerate() {
        let dtype = Dtype::ALL[sample.dtype];
        let layout = match sample.strides {
            Some(strides) if strides.len() == sample.shape.len() && dtype.byte_len().is_some() => {
                Layout::strided(sample.shape, strides).unwrap()
            }
            _ => Layout::contiguous(sample.shape).unwrap(),
        };
        let (Some(span), Some(_)) = (layout.span_bytes(dtype), layout.contiguous_bytes(dtype))
        else {
            continue;
        };
        let layout = layout
            .with_byte_order(if sample.big {
                ByteOrder::Big
            } else {
                ByteOrder::Little
            })
            .with_conjugated(sample.conjugated && dtype.is_complex())
            .with_negated(sample.negated && naive::can_negate(dtype));
        let name = format!("t{index}");
        if let Some((record, len)) = last.filter(|_| sample.shares)
            && span <= len
        {
            builder
                .entry(name, dtype, layout, View::at(record, len - span))
                .unwrap();
            continue;
        }
        let id = ShardId(u32::from(sample.shard));
        let shard = &mut shards[id.index()];
        shard.extend(pattern(sample.gap, seed + index as u64));
        let offset = shard.len() as u64;
        let bytes = pattern(span as usize + 16, seed ^ index as u64);
        let source = match sample.encoding {
            0 => Source::Inline {
                shard: id,
                bytes: bytes.into(),
            },
            1 => Source::Absent { shard: id },
            2 => {
                let deflated = naive::deflate(&bytes);
                shard.extend(&deflated);
                let extent = Extent::new(id, offset, deflated.len() as u64);
                Source::Deflated {
                    extent,
                    len: bytes.len() as u64,
                }
            }
            _ => {
                shard.extend(&bytes);
                Source::Stored(Extent::new(id, offset, bytes.len() as u64))
            }
        };
        let len = span + 16;
        let record = builder.record(Record::new(source)).unwrap();
        builder
            .entry(name, dtype, layout, View::at(record, 0))
            .unwrap();
        last = Some((record, len));
    }
    Sample {
        catalog: builder.finish(),
        shards,
    }
}
