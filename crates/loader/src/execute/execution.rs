//! One execution of a plan: its shards, its share of the budget, the groups that it touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tensorlift_device::{Destination, Device, Group, GroupRequest};
use tensorlift_tensor_meta::{Catalog, Error};

use super::chunk::Chunk;
use super::hash::Hashes;
use super::open_shard::OpenShard;
use super::progress::Tally;
use super::verify::Sums;
use super::workers::{self, Job};
use super::{cut, mapped, reader};
use crate::budget::Share;
use crate::control::Control;
use crate::options::{LoadOptions, Verify};
use crate::plan::{GroupMemory, Plan, PlannedGroup};
use crate::report::{Counts, FileReport};
use crate::shard::Shard;

/// Shards that are read at the same time, in turns.
const SHARDS_AT_ONCE: usize = 4;

/// A plan that is being executed.
pub(super) struct Execution<'a> {
    plan: &'a Plan,
    catalog: &'a Catalog,
    shards: &'a [Shard],
    options: &'a LoadOptions,
    control: &'a Control,
    share: Share,
    open_shards: Vec<OpenShard<'a>>,
    /// For each group, whether a byte of it may have been written.
    touched: Vec<AtomicBool>,
}

impl<'a> Execution<'a> {
    /// Takes `bytes` of memory from the budget; nothing is opened yet.
    pub(super) fn begin(
        plan: &'a Plan,
        catalog: &'a Catalog,
        shards: &'a [Shard],
        options: &'a LoadOptions,
        control: &'a Control,
        bytes: u64,
    ) -> Result<Self, Error> {
        let readers = reader::warm_readers(plan);
        let mut wanted = plan.bytes_of_shards(shards.len());
        for extent in options.hashes.iter().map(|range| range.extent) {
            if let Some(wanted) = wanted.get_mut(extent.shard.index()) {
                *wanted = extent.len.max(*wanted);
            }
        }
        let open_shard = |(shard, wanted)| OpenShard::new(shard, options, wanted, readers);
        Ok(Self {
            plan,
            catalog,
            shards,
            options,
            control,
            share: options
                .shared_budget()
                .memory(bytes, options.memory_bytes)?,
            open_shards: shards.iter().zip(wanted).map(open_shard).collect(),
            touched: plan.groups.iter().map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Allocates the groups.
    pub(super) fn allocate(
        &self,
        devices: &[Arc<dyn Device>],
    ) -> Result<Vec<Box<dyn Group>>, Error> {
        let allocate_one = |group: &PlannedGroup| match group.memory {
            GroupMemory::Device(device) => {
                let bytes = usize::try_from(group.bytes).unwrap_or(usize::MAX);
                let entry = group
                    .entry
                    .map(|position| &self.catalog.entries()[position]);
                let request = GroupRequest::new(bytes)
                    .dtype(group.dtype)
                    .entry(entry)
                    .page_offset(group.page_offset);
                Ok::<_, Error>(devices[device].allocate(&request)?)
            }
            GroupMemory::Mapped(shard) => mapped::group(&self.open_shards[shard.index()]),
        };
        self.plan.groups.iter().map(allocate_one).collect()
    }

    /// Reads all segments.
    pub(super) fn read(&mut self, destinations: Vec<Destination<'_>>) -> Result<Counts, Error> {
        let (plan, catalog, options) = (self.plan, self.catalog, self.options);
        let (bytes, segments) = (plan.bytes_to_read, plan.segments.len());
        let span = tracing::info_span!("read", bytes, segments).entered();
        // Checks the ranges, which chunks are made of.
        let hashes = match &*options.hashes {
            [] => None,
            ranges => Some(Hashes::new(ranges, self.shards)?),
        };
        let shards_at_once = SHARDS_AT_ONCE.min(self.open_shards.len());
        let shards_at_once = self.share.open_shards(shards_at_once);
        let chunks = cut::cut(plan, catalog, destinations, options, shards_at_once)?;
        for shard in chunks.iter().filter_map(Chunk::shard) {
            self.open_shards[shard.index()].add_chunk();
        }
        let files = self.open_shards.iter().filter(|shard| shard.is_read());
        let files = files.count();
        let tally = self.control.progress.as_deref();
        let tally = tally.map(|tell| Tally::new(tell, plan, catalog, &chunks, files));
        let sums = (options.verify == Verify::Crc32).then(|| Sums::new(catalog, plan));
        let job = Job {
            catalog,
            shards: &self.open_shards,
            control: self.control,
            options,
            share: &self.share,
            sums: sums.as_ref(),
            hashes: hashes.as_ref(),
            touched: &self.touched,
            tally: tally.as_ref(),
            span: &span,
        };
        let mut counts = workers::run_all(chunks, &job)?;
        if let Some(sums) = sums {
            let named = |error: Error| match error.extent() {
                Some(extent) => {
                    let shard = self.open_shards[extent.shard.index()].shard();
                    error.with_path(shard.path())
                }
                None => error,
            };
            counts.verified = Some(sums.check(plan).map_err(named)?);
        }
        if let Some(hashes) = hashes {
            counts.hashed = Some(hashes.finish(catalog, self.shards)?);
        }
        Ok(counts)
    }

    /// How each shard was read.
    pub(super) fn files(&self) -> Vec<FileReport> {
        self.open_shards.iter().map(OpenShard::report).collect()
    }

    /// The groups of which bytes may have been written, by position.
    pub(super) fn touched(&self) -> Vec<usize> {
        let touched = self.touched.iter().enumerate();
        let touched = touched.filter(|(_, touched)| touched.load(Ordering::Relaxed));
        touched.map(|(group, _)| group).collect()
    }
}
