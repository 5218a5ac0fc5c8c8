//! Running one chunk: reading its bytes into place.

use tensorlift_storage::inflate;
use tensorlift_tensor_meta::Extent;

use super::chunk::{Chunk, ChunkPart, ChunkSource, Target};
use super::deliver::{deliver, deliver_from, transform_bytes};
use super::failure::Failure;
use super::lane::HeldLane;
use super::scratch::zeroed;
use super::staged::{fits_slot, run_staged, runs_of_one_group, stage_together};
use super::tools::{Ran, Tools};

/// Reads a chunk into place.
pub(super) fn run<'a>(chunk: Chunk<'a>, tools: &mut Tools<'_, 'a>) -> Result<Ran, Failure> {
    match chunk.source {
        ChunkSource::Stored(extent) => run_stored(extent, chunk.parts, tools),
        ChunkSource::Deflated { extent, len } => {
            let storage = tools.storage()?;
            let checks = tools.checks;
            decode(chunk.parts, len, tools.lane, |record| {
                let found = inflate(storage, extent.range(), record)?;
                if found != record.len() {
                    let (expected, found) = (record.len() as u64, found as u64);
                    return Err(Failure::Decode { expected, found });
                }
                checks.see_inflated(extent, record);
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
    mut parts: Vec<ChunkPart<'a>>,
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    if parts.is_empty() {
        tools.source()?.read_scratch(extent, tools.scratch)?;
        return Ok(Ran::BOUNCED);
    }
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

/// Reads a chunk once and copies it to several targets, or picks from it what is selected.
fn scatter<'a>(
    extent: Extent,
    mut parts: Vec<ChunkPart<'a>>,
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let is_whole = |part: &ChunkPart<'_>| {
        let host = matches!(part.target, Target::Host(_));
        host && part.segment.is_same_len() && part.len == extent.len
    };
    // One target is read into, the others get copies.
    if let Some(position) = parts.iter().position(is_whole)
        && let ChunkPart {
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

/// Decodes a record, in place where all of it goes to one target in host memory.
fn decode<'a>(
    mut parts: Vec<ChunkPart<'a>>,
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
    if !tools.checks.is_empty()
        && let Some(bytes) = storage.as_slice()
    {
        let bytes = &bytes[extent.offset as usize..extent.end() as usize];
        tools.checks.see(extent, bytes)?;
    }
    Ok(Ran::IN_PLACE)
}
