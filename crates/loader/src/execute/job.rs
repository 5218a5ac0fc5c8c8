//! What one thread does at a time: bring one chunk to its place.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;
use tensorlift_device::{CopyRun, Destination, Staging};
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Catalog, Extent, Source};

use super::{Destinations, Failure, turn};
use crate::options::LoadOptions;
use crate::plan::{Fix, Plan, Segment, SegmentSource};
use crate::shard::Shard;

/// Bytes of a mapping that one job populates.
const POPULATE_BYTES: usize = 64 << 20;
/// The least chunk; below it, calls cost more than bytes.
const MIN_CHUNK_BYTES: usize = 4096;

/// A chunk and its place.
pub(super) struct Job<'a> {
    from: Origin<'a>,
    to: Target<'a>,
    fix: Option<Fix>,
    /// Where the chunk begins in its segment.
    at: u64,
}

enum Origin<'a> {
    Stored(&'a dyn Storage, Extent),
    Deflated(&'a dyn Storage, Extent),
    Inline(&'a [u8]),
}

enum Target<'a> {
    /// Host memory of the chunk's length.
    Host(&'a mut [u8]),
    /// A place in a group behind staging buffers.
    Staged {
        staging: &'a dyn Staging,
        to: usize,
        len: usize,
    },
    /// The mapping itself.
    Mapping,
}

/// Cuts a plan into jobs, in the order in which they run.
///
/// Every job that writes to host memory owns its part of it, so threads cannot meet.
pub(super) fn split<'a>(
    plan: &Plan,
    catalog: &'a Catalog,
    shards: &'a [Shard],
    destinations: Destinations<'a>,
    options: &LoadOptions,
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
            Destination::Staged(staging) => Memory::Staged(staging),
        };
        while let Some(segment) = segments.next_if(|segment| segment.group == index) {
            let chunk = if mapped {
                POPULATE_BYTES
            } else {
                memory.chunk_bytes(options)
            };
            let mut at = 0;
            for number in 0.. {
                if at == segment.len {
                    break;
                }
                let len = chunk_len(segment, at, chunk as u64);
                let to = match mapped {
                    true => Target::Mapping,
                    false => memory.take((segment.to + at) as usize, len as usize),
                };
                let from = source(segment, catalog, shards, at, len);
                let job = Job {
                    from,
                    to,
                    fix: segment.fix,
                    at,
                };
                jobs.push((
                    turn(&segment.from, first_chunk(segment, chunk) + number),
                    job,
                ));
                at += len;
            }
        }
    }
    jobs.sort_by_key(|(turn, _)| *turn);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// The rest of a group's memory, handed out from the front.
enum Memory<'a> {
    Host { rest: &'a mut [u8], position: usize },
    Staged(&'a dyn Staging),
}

impl<'a> Memory<'a> {
    fn chunk_bytes(&self, options: &LoadOptions) -> usize {
        let most = match self {
            Memory::Host { .. } => usize::MAX,
            Memory::Staged(staging) => staging.buffer_bytes(),
        };
        // Whole elements, whatever the dtype, so that chunks can be mended one by one.
        (options.chunk_bytes.max(MIN_CHUNK_BYTES).min(most) / 16 * 16).max(16)
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
            Memory::Staged(staging) => Target::Staged {
                staging: *staging,
                to,
                len,
            },
        }
    }
}

/// How long the chunk is that begins `at` bytes into a segment.
///
/// Stored bytes are cut at multiples of the chunk size in the file, as read-ahead and direct
/// reads like it; what is mended, at multiples from its own beginning; the rest, not at all.
fn chunk_len(segment: &Segment, at: u64, chunk: u64) -> u64 {
    let left = segment.len - at;
    match segment.from {
        SegmentSource::Stored(extent) if segment.fix.is_none() => {
            left.min(chunk - (extent.offset + at) % chunk)
        }
        SegmentSource::Stored(_) => left.min(chunk),
        SegmentSource::Deflated(_) | SegmentSource::Inline(_) => left,
    }
}

/// The number of the file's chunk in which a segment begins.
fn first_chunk(segment: &Segment, chunk: usize) -> usize {
    segment
        .extent()
        .map_or(0, |extent| (extent.offset / chunk as u64) as usize)
}

fn source<'a>(
    segment: &Segment,
    catalog: &'a Catalog,
    shards: &'a [Shard],
    at: u64,
    len: u64,
) -> Origin<'a> {
    let storage = |extent: Extent| &**shards[extent.shard.index()].storage();
    match segment.from {
        SegmentSource::Stored(extent) => Origin::Stored(
            storage(extent),
            Extent::new(extent.shard, extent.offset + at, len),
        ),
        SegmentSource::Deflated(extent) => Origin::Deflated(storage(extent), extent),
        SegmentSource::Inline(record) => match &catalog.records()[record.index()].source {
            Source::Inline { bytes, .. } => Origin::Inline(bytes),
            // A plan of another catalog: `fill` sees that the length is wrong.
            _ => Origin::Inline(&[]),
        },
    }
}

impl Job<'_> {
    /// The bytes of a shard that it reads.
    pub(super) fn extent(&self) -> Option<Extent> {
        match self.from {
            Origin::Stored(_, extent) | Origin::Deflated(_, extent) => Some(extent),
            Origin::Inline(_) => None,
        }
    }

    /// How many bytes of a shard it reads.
    pub(super) fn bytes_read(&self) -> u64 {
        self.extent().map_or(0, |extent| extent.len)
    }

    /// The size of the staging buffer that it needs.
    pub(super) fn staging_bytes(&self) -> Option<usize> {
        match &self.to {
            Target::Staged { len, .. } => Some(*len),
            _ => None,
        }
    }

    /// Brings the chunk to its place.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Job { from, to, fix, at } = self;
        let mended = |chunk: &mut [u8]| {
            from.fill(chunk)?;
            if let Some(fix) = &fix {
                fix.apply(chunk, at);
            }
            Ok::<(), Failure>(())
        };
        match to {
            Target::Mapping => from.populate(),
            Target::Host(memory) => mended(memory),
            Target::Staged { staging, to, len } if from.is_stored() => {
                let mut buffer = staging.take(len)?;
                mended(&mut buffer.bytes()[..len])?;
                Ok(buffer.copy(&[CopyRun { from: 0, to, len }])?)
            }
            // What is decoded does not fit staging buffers; it is small, and rare.
            Target::Staged { staging, to, len } => {
                let mut decoded = vec![0; len];
                mended(&mut decoded)?;
                for (index, part) in decoded.chunks(staging.buffer_bytes().max(1)).enumerate() {
                    let to = to + index * staging.buffer_bytes();
                    let mut buffer = staging.take(part.len())?;
                    buffer.bytes()[..part.len()].copy_from_slice(part);
                    buffer.copy(&[CopyRun {
                        from: 0,
                        to,
                        len: part.len(),
                    }])?;
                }
                Ok(())
            }
        }
    }
}

impl Origin<'_> {
    fn is_stored(&self) -> bool {
        matches!(self, Origin::Stored(..))
    }

    fn populate(&self) -> Result<(), Failure> {
        match self {
            Origin::Stored(storage, extent) => Ok(storage.populate(extent.range())?),
            _ => Ok(()),
        }
    }

    fn fill(&self, chunk: &mut [u8]) -> Result<(), Failure> {
        let expected = chunk.len() as u64;
        match self {
            Origin::Stored(storage, extent) => Ok(storage.read_exact_at(extent.offset, chunk)?),
            Origin::Inline(bytes) if bytes.len() == chunk.len() => {
                chunk.copy_from_slice(bytes);
                Ok(())
            }
            Origin::Inline(bytes) => Err(Failure::Decode {
                expected,
                found: bytes.len() as u64,
            }),
            Origin::Deflated(storage, extent) => {
                let mut compressed = tensorlift_storage::Cursor::new(*storage);
                io::Seek::seek(&mut compressed, io::SeekFrom::Start(extent.offset))?;
                let mut decoder = DeflateDecoder::new(compressed.take(extent.len));
                let found = read_up_to(&mut decoder, chunk)?;
                // One more byte tells a longer stream.
                let more = read_up_to(&mut decoder, &mut [0])?;
                match found + more == chunk.len() {
                    true => Ok(()),
                    false => Err(Failure::Decode {
                        expected,
                        found: (found + more) as u64,
                    }),
                }
            }
        }
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
