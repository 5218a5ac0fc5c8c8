//! What one thread does at a time: bring one chunk to its place.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;
use tensorlift_device::{CopyRun, Destination, Lane, Pulled, Staging};
use tensorlift_storage::{Cursor, LocalFile, Storage, StorageExt};
use tensorlift_tensor_meta::{Catalog, Extent, ShardId, Source};

use super::Failure;
use super::lane::HeldLane;
use super::verify::Sums;
use crate::options::LoadOptions;
use crate::plan::{Fix, Plan, Segment, SegmentSource};
use crate::reader::Reader;

/// Bytes of a mapping that one job populates: enough for a call to cost nothing, few enough for
/// threads to end together.
const POPULATE_BYTES: usize = 8 << 20;
/// The least chunk where each read goes out as several requests.
const URING_CHUNK_BYTES: usize = 16 << 20;
/// The least chunk; below it, calls cost more than bytes.
const MIN_CHUNK_BYTES: usize = 4096;

/// A chunk and its place.
pub(super) struct Job<'a> {
    origin: Origin<'a>,
    target: Target<'a>,
    fix: Option<Fix>,
    /// Where the chunk begins in its segment.
    at: u64,
    len: u64,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    Stored(Extent),
    Deflated(Extent),
    Inline(&'a [u8]),
}

enum Target<'a> {
    /// Host memory of the chunk's length.
    Host(&'a mut [u8]),
    /// A place in a group behind staging slots.
    Staged {
        group: usize,
        staging: &'a dyn Staging,
        to: usize,
    },
    /// The mapping itself.
    Mapping,
}

/// Cuts a plan into jobs, in the order in which they run: a few shards at once, chunk by chunk in
/// turn, each from its beginning.
///
/// Every job that writes to host memory owns its part of it, so threads cannot meet.
pub(super) fn split<'a>(
    plan: &Plan,
    catalog: &'a Catalog,
    destinations: Vec<Destination<'a>>,
    options: &LoadOptions,
    shards_at_once: usize,
) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    let mut segments = plan.segments.iter().peekable();
    for (index, destination) in destinations.into_iter().enumerate() {
        let mapped = plan.groups[index].is_mapped();
        let mut memory = match destination {
            Destination::Host(memory) => Memory::Host {
                rest: memory,
                position: 0,
            },
            Destination::Staged(staging) => Memory::Staged {
                group: index,
                staging,
            },
        };
        while let Some(segment) = segments.next_if(|segment| segment.group == index) {
            let chunk = if mapped {
                POPULATE_BYTES
            } else {
                memory.chunk_bytes(options)
            };
            let mut at = 0;
            while at < segment.len {
                let len = chunk_len(segment, at, chunk as u64);
                let target = match mapped {
                    true => Target::Mapping,
                    false => memory.take((segment.to + at) as usize, len as usize),
                };
                let origin = origin(segment, catalog, at, len);
                let job = Job {
                    origin,
                    target,
                    fix: segment.fix,
                    at,
                    len,
                };
                jobs.push((turn(&job, chunk as u64, shards_at_once as u32), job));
                at += len;
            }
        }
    }
    jobs.sort_by_key(|(turn, _)| *turn);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// When a job runs: with which shards, with which chunk of theirs, then by place.
fn turn(job: &Job<'_>, chunk: u64, shards_at_once: u32) -> (u32, u64, u32, u64) {
    match job.extent() {
        Some(Extent {
            shard: ShardId(shard),
            offset,
            ..
        }) => (
            shard / shards_at_once,
            offset / chunk,
            shard % shards_at_once,
            offset,
        ),
        None => (0, 0, 0, 0),
    }
}

/// The rest of a group's memory, handed out from the front.
enum Memory<'a> {
    Host {
        rest: &'a mut [u8],
        position: usize,
    },
    Staged {
        group: usize,
        staging: &'a dyn Staging,
    },
}

impl<'a> Memory<'a> {
    fn chunk_bytes(&self, options: &LoadOptions) -> usize {
        let most = match self {
            Memory::Host { .. } => usize::MAX,
            Memory::Staged { staging, .. } => staging.slot_bytes(),
        };
        let least = match options.reader {
            Reader::Uring => URING_CHUNK_BYTES,
            _ => MIN_CHUNK_BYTES,
        };
        // Whole elements, whatever the dtype, so that chunks can be mended one by one.
        (options.chunk_bytes.max(least).min(most) / 16 * 16).max(16)
    }

    /// The `len` bytes at `to`; segments come in the order of their places.
    fn take(&mut self, to: usize, len: usize) -> Target<'a> {
        match self {
            Memory::Host { rest, position } => {
                let (_, from) = std::mem::take(rest).split_at_mut(to - *position);
                let (taken, left) = from.split_at_mut(len);
                *rest = left;
                *position = to + len;
                Target::Host(taken)
            }
            Memory::Staged { group, staging } => Target::Staged {
                group: *group,
                staging: *staging,
                to,
            },
        }
    }
}

/// How long the chunk is that begins `at` bytes into a segment.
///
/// Stored bytes are cut at multiples of the chunk size in their group, so that no two threads
/// touch one huge page first, for then each fills one with zeros, of which one is thrown away;
/// what is mended, at multiples from its own beginning; the rest, not at all.
fn chunk_len(segment: &Segment, at: u64, chunk: u64) -> u64 {
    let left = segment.len - at;
    match segment.from {
        SegmentSource::Stored(_) if segment.fix.is_none() => {
            left.min(chunk - (segment.to + at) % chunk)
        }
        SegmentSource::Stored(_) => left.min(chunk),
        SegmentSource::Deflated(_) | SegmentSource::Inline(_) => left,
    }
}

fn origin<'a>(segment: &Segment, catalog: &'a Catalog, at: u64, len: u64) -> Origin<'a> {
    match segment.from {
        SegmentSource::Stored(extent) => {
            Origin::Stored(Extent::new(extent.shard, extent.offset + at, len))
        }
        SegmentSource::Deflated(extent) => Origin::Deflated(extent),
        SegmentSource::Inline(record) => match &catalog.records()[record.index()].source {
            Source::Inline { bytes, .. } => Origin::Inline(bytes),
            // A plan of another catalog: `fill` sees that the length is wrong.
            _ => Origin::Inline(&[]),
        },
    }
}

impl<'a> Job<'a> {
    /// The bytes of a shard that it reads.
    pub(super) fn extent(&self) -> Option<Extent> {
        match self.origin {
            Origin::Stored(extent) | Origin::Deflated(extent) => Some(extent),
            Origin::Inline(_) => None,
        }
    }

    /// The shard that it reads.
    pub(super) fn shard(&self) -> Option<ShardId> {
        self.extent().map(|extent| extent.shard)
    }

    /// How many bytes of a shard it reads.
    pub(super) fn bytes_read(&self) -> u64 {
        self.extent().map_or(0, |extent| extent.len)
    }

    /// How many bytes arrive.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How it reaches a group that the host cannot write.
    pub(super) fn staging(&self) -> Option<&'a dyn Staging> {
        match self.target {
            Target::Staged { staging, .. } => Some(staging),
            _ => None,
        }
    }

    /// Brings the chunk to its place; `storage` is that of its shard.
    pub(super) fn run(
        self,
        storage: Option<&dyn Storage>,
        sums: Option<&Sums<'_>>,
        lane: &mut HeldLane<'a>,
    ) -> Result<Pull, Failure> {
        let Job {
            origin,
            target,
            fix,
            at,
            len,
        } = self;
        let len = len as usize;
        let mended = |chunk: &mut [u8]| {
            origin.fill(storage, chunk)?;
            if let Some(sums) = sums {
                origin.sum(sums, chunk);
            }
            if let Some(fix) = &fix {
                fix.apply(chunk, at);
            }
            Ok::<(), Failure>(())
        };
        match target {
            Target::Mapping => origin.populate(storage, sums)?,
            Target::Host(memory) => mended(memory)?,
            Target::Staged { group, staging, to } => match origin {
                Origin::Stored(extent) => {
                    let runs = [CopyRun { from: 0, to, len }];
                    // What is summed or mended must pass through here.
                    let pull = match fix.is_none() && sums.is_none() {
                        true => pull(staging, storage, extent, &runs)?,
                        false => Pull::NotAsked,
                    };
                    if !matches!(pull, Pull::Done) {
                        let lane = lane.for_group(group, staging)?;
                        mended(lane.slot(len)?)?;
                        // A conversion of the dtype belongs here: the slot holds the bytes as the
                        // file has them, and no copy has begun.
                        lane.copy(&runs)?;
                    }
                    return Ok(pull);
                }
                // What is decoded does not fit a slot; it is small, and rare.
                Origin::Deflated(_) | Origin::Inline(_) => {
                    let mut decoded = vec![0; len];
                    mended(&mut decoded)?;
                    let part = staging.slot_bytes().max(1);
                    stage(lane.for_group(group, staging)?, part, to, &decoded)?;
                }
            },
        }
        Ok(Pull::NotAsked)
    }
}

/// Whether a device read from a file itself.
pub(super) enum Pull {
    /// It did.
    Done,
    /// It did not, for this reason.
    Refused(String),
    /// It is none that would, or the bytes had to pass through the host.
    NotAsked,
}

/// Lets a device that can read from files itself do so.
fn pull(
    staging: &dyn Staging,
    storage: Option<&dyn Storage>,
    extent: Extent,
    runs: &[CopyRun],
) -> Result<Pull, Failure> {
    let Some(storage) = storage.filter(|_| staging.pulls()) else {
        return Ok(Pull::NotAsked);
    };
    let file = storage.as_local().map(LocalFile::file).transpose()?;
    let Some(file) = file.flatten() else {
        return Ok(Pull::NotAsked);
    };
    let (offset, len) = (extent.offset, extent.len as usize);
    let wanted = tensorlift_device::Pull {
        file: &file,
        offset,
        len,
        runs,
    };
    Ok(match staging.pull(&wanted)? {
        Pulled::Done => Pull::Done,
        Pulled::Refused(why) => Pull::Refused(why.into_owned()),
        _ => Pull::NotAsked,
    })
}

/// Copies bytes through the slots of a lane, part by part.
fn stage(lane: &mut dyn Lane, size: usize, to: usize, bytes: &[u8]) -> Result<(), Failure> {
    for (index, part) in bytes.chunks(size).enumerate() {
        lane.slot(part.len())?.copy_from_slice(part);
        lane.copy(&[CopyRun {
            from: 0,
            to: to + index * size,
            len: part.len(),
        }])?;
    }
    Ok(())
}

impl Origin<'_> {
    fn populate(
        &self,
        storage: Option<&dyn Storage>,
        sums: Option<&Sums<'_>>,
    ) -> Result<(), Failure> {
        let (Origin::Stored(extent), Some(storage)) = (self, storage) else {
            return Ok(());
        };
        if let Some(local) = storage.as_local() {
            local.populate(extent.range())?;
        }
        if let (Some(sums), Some(bytes)) = (sums, storage.as_slice()) {
            sums.add(
                *extent,
                &bytes[extent.offset as usize..extent.end() as usize],
            );
        }
        Ok(())
    }

    fn sum(&self, sums: &Sums<'_>, chunk: &[u8]) {
        match self {
            Origin::Stored(extent) => sums.add(*extent, chunk),
            Origin::Deflated(extent) => sums.add_inflated(*extent, chunk),
            Origin::Inline(_) => {}
        }
    }

    fn fill(&self, storage: Option<&dyn Storage>, chunk: &mut [u8]) -> Result<(), Failure> {
        let expected = chunk.len() as u64;
        match (self, storage) {
            (Origin::Stored(extent), Some(storage)) => {
                Ok(storage.read_exact_at(extent.offset, chunk)?)
            }
            (Origin::Deflated(extent), Some(storage)) => inflate(storage, *extent, chunk),
            (&Origin::Inline(bytes), _) if bytes.len() == chunk.len() => {
                chunk.copy_from_slice(bytes);
                Ok(())
            }
            (&Origin::Inline(bytes), _) => Err(Failure::Decode {
                expected,
                found: bytes.len() as u64,
            }),
            // Every extent has a shard.
            (_, None) => Err(Failure::Decode { expected, found: 0 }),
        }
    }
}

fn inflate(storage: &dyn Storage, extent: Extent, chunk: &mut [u8]) -> Result<(), Failure> {
    let mut compressed = Cursor::new(storage);
    compressed.seek(SeekFrom::Start(extent.offset))?;
    let mut decoder = DeflateDecoder::new(compressed.take(extent.len));
    let found = read_up_to(&mut decoder, chunk)?;
    // One more byte tells a longer stream.
    let found = found + read_up_to(&mut decoder, &mut [0])?;
    match found == chunk.len() {
        true => Ok(()),
        false => Err(Failure::Decode {
            expected: chunk.len() as u64,
            found: found as u64,
        }),
    }
}

/// Fills as much of `buf` as the reader has; a broken stream ends where it breaks.
fn read_up_to(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match reader.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_broken_stream(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// How a decoder reports bytes that are no deflate stream, or one that ends early.
fn is_broken_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
