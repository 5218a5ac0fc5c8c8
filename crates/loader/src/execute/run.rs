//! Running one chunk: read its bytes and bring them to their places.

use std::io;

use tensorlift_device::{CopyRun, Lane, Pulled, Staging};
use tensorlift_storage::{LocalFile, Storage, StorageExt};
use tensorlift_tensor_meta::Extent;

use super::chunk::{Chunk, ChunkSource, Part, PullOutcome, Target};
use super::failure::Failure;
use super::inflate::inflate;
use super::lane::HeldLane;
use super::scratch::{Scratch, zeroed};
use super::verify::Sums;
use crate::dtype::Cast;
use crate::plan::{Segment, Selection, Transform};

/// Direct reads land in place where file offset and address agree modulo this many bytes.
const PAGE_BYTES: u64 = 4096;
/// Runs up to this length are moved together in the staging slot, to be one copy to the device;
/// longer ones are a copy each.
const COMPACTED_RUN_BYTES: u64 = 64 << 10;

/// What running a chunk needs.
pub(super) struct Tools<'t, 'a> {
    /// The storage of the chunk's shard, if it has one.
    pub(super) storage: Option<&'t dyn Storage>,
    pub(super) sums: Option<&'t Sums<'t>>,
    pub(super) scratch: &'t mut Scratch,
    pub(super) lane: &'t mut HeldLane<'a>,
}

/// What happened to a chunk.
pub(super) struct Ran {
    pub(super) pull: PullOutcome,
    /// Whether its bytes went through memory beside their target.
    pub(super) bounced: bool,
}

impl Ran {
    const IN_PLACE: Self = Self {
        pull: PullOutcome::NotAsked,
        bounced: false,
    };
    const BOUNCED: Self = Self {
        bounced: true,
        ..Self::IN_PLACE
    };
}

/// Brings a chunk to its places.
pub(super) fn run<'a>(chunk: Chunk<'a>, tools: &mut Tools<'_, 'a>) -> Result<Ran, Failure> {
    match chunk.source {
        ChunkSource::Stored(extent) => run_stored(extent, chunk.parts, tools),
        ChunkSource::Deflated { extent, len } => {
            let storage = tools.storage()?;
            let sums = tools.sums;
            decode(chunk.parts, len, tools.lane, |record| {
                inflate(storage, extent, record)?;
                if let Some(sums) = sums {
                    sums.add_inflated(extent, record);
                }
                Ok(())
            })
        }
        ChunkSource::Inline(bytes) => {
            chunk
                .parts
                .into_iter()
                .try_for_each(|part| deliver(part, bytes, tools.lane))?;
            Ok(Ran::BOUNCED)
        }
    }
}

fn run_stored<'a>(
    extent: Extent,
    mut parts: Vec<Part<'a>>,
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    if let [part] = &mut parts[..] {
        match &mut part.target {
            Target::Mapping => return populate(extent, tools),
            Target::Host(memory) if part.segment.is_same_len() => {
                let bounced = tools.read_into(extent, memory)?;
                transform_bytes(part.segment.transform.as_ref(), memory, part.at);
                return Ok(Ran {
                    bounced,
                    ..Ran::IN_PLACE
                });
            }
            Target::Staged { staging, to, len } if fits_slot(part.segment) => {
                let (staging, to, len) = (*staging, *to, *len);
                return run_staged(extent, part, (staging, to, len), tools);
            }
            _ => {}
        }
    }
    scatter(extent, parts, tools)
}

/// Whether a chunk of the source gives a run of what arrives, and that is not longer.
fn fits_slot(segment: &Segment) -> bool {
    let is_cut = segment.selection.as_ref().is_none_or(Selection::is_ordered);
    is_cut && segment.cast.is_none_or(Cast::narrows)
}

/// Brings one part through a staging slot, or lets the device read it.
fn run_staged<'a>(
    extent: Extent,
    part: &Part<'a>,
    (staging, to, len): (&'a dyn Staging, usize, usize),
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let whole = [CopyRun { from: 0, to, len }];
    // What is summed or changed must pass through the host.
    let pull = match part.is_verbatim() && tools.sums.is_none() {
        true => pull(staging, tools.storage()?, extent, &whole)?,
        false => PullOutcome::NotAsked,
    };
    if !matches!(pull, PullOutcome::Done) {
        let source = tools.source()?;
        let lane = tools.lane.for_group(part.segment.group, staging)?;
        let slot = lane.slot(extent.len as usize)?;
        source.read(extent, slot)?;
        let Segment {
            transform, cast, ..
        } = part.segment;
        let is_changed = transform.is_some() || cast.is_some();
        match &part.segment.selection {
            None => change_bytes(part.segment, slot, part.at),
            Some(selection) if is_changed || is_narrow(selection) => {
                let arriving = selection.compact(slot, part.at);
                let before = selection.bytes_before(part.at);
                change_bytes(part.segment, &mut slot[..arriving], before);
            }
            Some(selection) => {
                lane.copy(&copy_runs(selection, part.at, extent.len, to))?;
                return Ok(Ran::IN_PLACE);
            }
        }
        lane.copy(&whole)?;
    }
    Ok(Ran {
        pull,
        ..Ran::IN_PLACE
    })
}

fn is_narrow(selection: &Selection) -> bool {
    selection.run_bytes <= COMPACTED_RUN_BYTES
}

/// Reads a chunk once and copies it to several targets, or picks from it what is selected.
fn scatter<'a>(
    extent: Extent,
    mut parts: Vec<Part<'a>>,
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let is_whole = |part: &Part<'_>| {
        let host = matches!(part.target, Target::Host(_));
        host && part.segment.is_same_len() && part.len == extent.len
    };
    // One target gets the read itself, the others copies of it.
    if let Some(position) = parts.iter().position(is_whole)
        && let Part {
            segment,
            at,
            target: Target::Host(memory),
            ..
        } = parts.swap_remove(position)
    {
        let bounced = tools.read_into(extent, memory)?;
        for part in parts {
            deliver_from(extent, part, memory, tools.lane)?;
        }
        transform_bytes(segment.transform.as_ref(), memory, at);
        return Ok(Ran {
            bounced,
            ..Ran::IN_PLACE
        });
    }
    if let Some((group, staging, runs)) = runs_of_one_group(extent, &parts) {
        return stage_together(extent, group, staging, &runs, tools);
    }
    let bytes = tools.source()?.read_scratch(extent, tools.scratch)?;
    for part in parts {
        deliver_from(extent, part, bytes, tools.lane)?;
    }
    Ok(Ran::BOUNCED)
}

/// Brings small neighbours of one group through one staging slot, or lets the device read them.
fn stage_together<'a>(
    extent: Extent,
    group: usize,
    staging: &'a dyn Staging,
    runs: &[CopyRun],
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let source = tools.source()?;
    let pull = match tools.sums {
        None => pull(staging, source.storage, extent, runs)?,
        // What is summed must pass through the host.
        Some(_) => PullOutcome::NotAsked,
    };
    if !matches!(pull, PullOutcome::Done) {
        let lane = tools.lane.for_group(group, staging)?;
        source.read(extent, lane.slot(extent.len as usize)?)?;
        lane.copy(runs)?;
    }
    Ok(Ran {
        pull,
        ..Ran::IN_PLACE
    })
}

/// The copies out of one staging slot, if that is all that a chunk needs.
fn runs_of_one_group<'a>(
    extent: Extent,
    parts: &[Part<'a>],
) -> Option<(usize, &'a dyn Staging, Vec<CopyRun>)> {
    let Target::Staged { staging, .. } = parts[0].target else {
        return None;
    };
    let group = parts[0].segment.group;
    let run = |part: &Part<'a>| match part.target {
        Target::Staged { to, len, .. } if part.is_verbatim() && part.segment.group == group => {
            let from = part.offset_in(extent);
            Some(CopyRun { from, to, len })
        }
        _ => None,
    };
    let runs: Option<Vec<CopyRun>> = parts.iter().map(run).collect();
    let fits = extent.len <= staging.slot_bytes() as u64;
    Some((group, staging, runs.filter(|_| fits)?))
}

/// Delivers a part of a chunk that was read.
fn deliver_from<'a>(
    extent: Extent,
    part: Part<'a>,
    bytes: &[u8],
    lane: &mut HeldLane<'a>,
) -> Result<(), Failure> {
    let start = part.offset_in(extent);
    deliver(part, &bytes[start..], lane)
}

/// Brings a part to its place; `bytes` begin with it.
fn deliver<'a>(part: Part<'a>, bytes: &[u8], lane: &mut HeldLane<'a>) -> Result<(), Failure> {
    let is_verbatim = part.is_verbatim();
    let Part {
        segment,
        at,
        len,
        target,
    } = part;
    let bytes = &bytes[..len as usize];
    match target {
        Target::Host(memory) => fill(segment, at, bytes, memory)?,
        Target::Staged { staging, to, len } => {
            let size = staging.slot_bytes().max(1);
            let lane = lane.for_group(segment.group, staging)?;
            if is_verbatim {
                return stage(lane, size, to, bytes);
            }
            let mut arriving = zeroed(len as u64)?;
            fill(segment, at, bytes, &mut arriving)?;
            stage(lane, size, to, &arriving)?;
        }
        Target::Mapping => {}
    }
    Ok(())
}

/// Fills `to` with what a part of a segment's source, which begins at byte `at`, has for it.
fn fill(segment: &Segment, at: u64, bytes: &[u8], to: &mut [u8]) -> Result<(), Failure> {
    match segment.cast {
        None => fill_unconverted(segment, at, bytes, to),
        Some(cast) if segment.selection.is_none() && segment.transform.is_none() => {
            cast.convert(bytes, to);
        }
        Some(cast) => {
            let elements = to.len() / cast.to().alignment();
            let mut selected = zeroed((elements * cast.from().alignment()) as u64)?;
            fill_unconverted(segment, at, bytes, &mut selected);
            cast.convert(&selected, to);
        }
    }
    Ok(())
}

/// As [`fill`], in the dtype of the source.
fn fill_unconverted(segment: &Segment, at: u64, bytes: &[u8], to: &mut [u8]) {
    let before = match &segment.selection {
        None => {
            to.copy_from_slice(bytes);
            at
        }
        Some(selection) => {
            selection.copy(bytes, at, to);
            match at {
                0 => 0,
                at => selection.bytes_before(at),
            }
        }
    };
    transform_bytes(segment.transform.as_ref(), to, before);
}

/// Changes the bytes of a part where they are; converted elements are at the front then.
fn change_bytes(segment: &Segment, bytes: &mut [u8], at: u64) {
    transform_bytes(segment.transform.as_ref(), bytes, at);
    if let Some(cast) = segment.cast {
        cast.convert_in_place(bytes);
    }
}

fn transform_bytes(transform: Option<&Transform>, bytes: &mut [u8], at: u64) {
    if let Some(transform) = transform {
        transform.apply(bytes, at);
    }
}

/// Decodes a record, in place where all of it goes to one target in host memory.
fn decode<'a>(
    mut parts: Vec<Part<'a>>,
    len: u64,
    lane: &mut HeldLane<'a>,
    decode_into: impl Fn(&mut [u8]) -> Result<(), Failure>,
) -> Result<Ran, Failure> {
    if let [part] = &mut parts[..]
        && part.segment.is_same_len()
        && let Target::Host(memory) = &mut part.target
    {
        decode_into(memory)?;
        transform_bytes(part.segment.transform.as_ref(), memory, 0);
        return Ok(Ran::IN_PLACE);
    }
    let mut record = zeroed(len)?;
    decode_into(&mut record)?;
    parts
        .into_iter()
        .try_for_each(|part| deliver(part, &record, lane))?;
    Ok(Ran::BOUNCED)
}

fn populate(extent: Extent, tools: &Tools<'_, '_>) -> Result<Ran, Failure> {
    let storage = tools.storage()?;
    if let Some(local) = storage.as_local() {
        local.populate(extent.range())?;
    }
    if let (Some(sums), Some(bytes)) = (tools.sums, storage.as_slice()) {
        sums.add(
            extent,
            &bytes[extent.offset as usize..extent.end() as usize],
        );
    }
    Ok(Ran::IN_PLACE)
}

/// Lets a device that can read from files itself do so.
fn pull(
    staging: &dyn Staging,
    storage: &dyn Storage,
    extent: Extent,
    runs: &[CopyRun],
) -> Result<PullOutcome, Failure> {
    if !staging.pulls() {
        return Ok(PullOutcome::NotAsked);
    }
    let file = storage.as_local().map(LocalFile::file).transpose()?;
    let Some(file) = file.flatten() else {
        return Ok(PullOutcome::NotAsked);
    };
    let (offset, len) = (extent.offset, extent.len as usize);
    let wanted = tensorlift_device::Pull {
        file: &file,
        offset,
        len,
        runs,
    };
    Ok(match staging.pull(&wanted)? {
        Pulled::Done => PullOutcome::Done,
        Pulled::Refused(why) => PullOutcome::Refused(why.into_owned()),
        _ => PullOutcome::NotAsked,
    })
}

/// Copies bytes through the slots of a lane, piece by piece.
fn stage(lane: &mut dyn Lane, size: usize, to: usize, bytes: &[u8]) -> Result<(), Failure> {
    for (index, piece) in bytes.chunks(size).enumerate() {
        lane.slot(piece.len())?.copy_from_slice(piece);
        lane.copy(&[CopyRun {
            from: 0,
            to: to + index * size,
            len: piece.len(),
        }])?;
    }
    Ok(())
}

/// The copies that bring a selection from a staging slot, filled from byte `at` of the source
/// on, to consecutive bytes from `to` on.
fn copy_runs(selection: &Selection, at: u64, len: u64, mut to: usize) -> Vec<CopyRun> {
    let mut runs = Vec::new();
    selection.each_run(at, len, |from, len| {
        runs.push(CopyRun { from, to, len });
        to += len;
    });
    runs
}

/// Where stored bytes are read from, and who sums them.
struct StoredSource<'t> {
    storage: &'t dyn Storage,
    sums: Option<&'t Sums<'t>>,
}

impl<'t> Tools<'t, '_> {
    fn storage(&self) -> Result<&'t dyn Storage, Failure> {
        // Whatever has an extent has a shard.
        self.storage
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    fn source(&self) -> Result<StoredSource<'t>, Failure> {
        Ok(StoredSource {
            storage: self.storage()?,
            sums: self.sums,
        })
    }

    /// Reads into host memory; whether the bytes had to go through scratch memory.
    fn read_into(&mut self, extent: Extent, memory: &mut [u8]) -> Result<bool, Failure> {
        let source = self.source()?;
        if !source.storage.reader().bypasses_page_cache() || is_congruent(extent.offset, memory) {
            source.read(extent, memory)?;
            return Ok(false);
        }
        memory.copy_from_slice(source.read_scratch(extent, self.scratch)?);
        Ok(true)
    }
}

impl StoredSource<'_> {
    /// Reads straight into memory.
    fn read(&self, extent: Extent, memory: &mut [u8]) -> Result<(), Failure> {
        self.storage.read_exact_at(extent.offset, memory)?;
        self.sum(extent, memory);
        Ok(())
    }

    /// Reads into scratch memory, placed so that direct reads land in it.
    fn read_scratch<'s>(
        &self,
        extent: Extent,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [u8], Failure> {
        let (start, end) = match self.storage.reader().bypasses_page_cache() {
            true => (
                extent.offset - extent.offset % PAGE_BYTES,
                extent
                    .end()
                    .next_multiple_of(PAGE_BYTES)
                    .min(self.storage.len()),
            ),
            false => (extent.offset, extent.end()),
        };
        // A file that was cut short fails at the read.
        let len = end.max(extent.end()) - start;
        let memory = scratch.bytes(len)?;
        self.storage.read_exact_at(start, memory)?;
        let bytes = &memory[(extent.offset - start) as usize..][..extent.len as usize];
        self.sum(extent, bytes);
        Ok(bytes)
    }

    fn sum(&self, extent: Extent, bytes: &[u8]) {
        if let Some(sums) = self.sums {
            sums.add(extent, bytes);
        }
    }
}

/// Whether direct reads from this offset land in this memory.
fn is_congruent(offset: u64, memory: &[u8]) -> bool {
    offset % PAGE_BYTES == memory.as_ptr().addr() as u64 % PAGE_BYTES
}
