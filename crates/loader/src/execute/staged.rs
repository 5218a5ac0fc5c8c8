//! Bringing chunks to a device: through staging slots, or by the device's own reads.

use tensorlift_device::{CopyRun, Pull, Pulled, Staging};
use tensorlift_storage::{LocalFile, Storage};
use tensorlift_tensor_meta::Extent;

use super::chunk::{ChunkPart, PullOutcome, Target};
use super::deliver::change_bytes;
use super::failure::Failure;
use super::tools::{Ran, Tools};
use crate::dtype::Cast;
use crate::plan::{Segment, Selection};

/// Runs up to this length are moved together in the staging slot, to be one copy to the device;
/// longer ones are a copy each.
const COMPACTED_RUN_BYTES: u64 = 64 << 10;

/// Whether the bytes that arrive from a chunk are consecutive and not longer than the chunk.
pub(super) fn fits_slot(segment: &Segment) -> bool {
    let is_cut = segment.selection.as_ref().is_none_or(Selection::is_ordered);
    is_cut && segment.cast.is_none_or(Cast::narrows)
}

/// Copies one part through a staging slot, or lets the device read it.
pub(super) fn run_staged<'a>(
    extent: Extent,
    part: &ChunkPart<'a>,
    (staging, to, len): (&'a dyn Staging, usize, usize),
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let whole = [CopyRun { from: 0, to, len }];
    // What is summed or changed must pass through the host.
    let pull = match part.is_verbatim() && tools.checks.is_empty() {
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

/// Copies small neighbours of one group through one staging slot, or lets the device read them.
pub(super) fn stage_together<'a>(
    extent: Extent,
    group: usize,
    staging: &'a dyn Staging,
    runs: &[CopyRun],
    tools: &mut Tools<'_, 'a>,
) -> Result<Ran, Failure> {
    let source = tools.source()?;
    // What is checked must pass through the host.
    let pull = match tools.checks.is_empty() {
        true => pull(staging, source.storage, extent, runs)?,
        false => PullOutcome::NotAsked,
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
pub(super) fn runs_of_one_group<'a>(
    extent: Extent,
    parts: &[ChunkPart<'a>],
) -> Option<(usize, &'a dyn Staging, Vec<CopyRun>)> {
    let Target::Staged { staging, .. } = parts[0].target else {
        return None;
    };
    let group = parts[0].segment.group;
    let run = |part: &ChunkPart<'a>| match part.target {
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
    let wanted = Pull::new(&file, extent.offset, extent.len as usize, runs);
    Ok(match staging.pull(&wanted)? {
        Pulled::Done => PullOutcome::Done,
        Pulled::Refused(why) => PullOutcome::Refused(why.into_owned()),
        _ => PullOutcome::NotAsked,
    })
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
