//! Delivering bytes that are in memory: selected, converted and copied to their places.

use tensorlift_device::{CopyRun, Lane};
use tensorlift_tensor_meta::Extent;

use super::chunk::{ChunkPart, Target};
use super::failure::Failure;
use super::lane::HeldLane;
use super::scratch::zeroed;
use crate::plan::{Segment, Transform};

/// Delivers a part of a chunk that was read.
pub(super) fn deliver_from<'a>(
    extent: Extent,
    part: ChunkPart<'a>,
    bytes: &[u8],
    lane: &mut HeldLane<'a>,
) -> Result<(), Failure> {
    let start = part.offset_in(extent);
    deliver(part, &bytes[start..], lane)
}

/// Copies a part to its place; `bytes` begins with the part.
pub(super) fn deliver<'a>(
    part: ChunkPart<'a>,
    bytes: &[u8],
    lane: &mut HeldLane<'a>,
) -> Result<(), Failure> {
    let is_verbatim = part.is_verbatim();
    let ChunkPart {
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

/// Fills `to` from a part of a segment's source that begins at byte `at`.
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

/// Changes the bytes of a part in place; converted elements end up at the front.
pub(super) fn change_bytes(segment: &Segment, bytes: &mut [u8], at: u64) {
    transform_bytes(segment.transform.as_ref(), bytes, at);
    if let Some(cast) = segment.cast {
        cast.convert_in_place(bytes);
    }
}

pub(super) fn transform_bytes(transform: Option<&Transform>, bytes: &mut [u8], at: u64) {
    if let Some(transform) = transform {
        transform.apply(bytes, at);
    }
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
