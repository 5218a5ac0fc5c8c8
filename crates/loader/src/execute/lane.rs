//! The lane that a reading thread holds.

use tensorlift_device::{DeviceError, Lane, Staging};

/// A lane into one group, kept from chunk to chunk.
///
/// A thread holds one at a time, so threads cannot wait for each other in a circle.
#[derive(Default)]
pub(super) struct HeldLane<'a> {
    /// The group's position, and the lane into it.
    held: Option<(usize, Box<dyn Lane + 'a>)>,
}

impl<'a> HeldLane<'a> {
    /// The lane into this group: the held one, or a new one.
    pub(super) fn for_group(
        &mut self,
        group: usize,
        staging: &'a dyn Staging,
    ) -> Result<&mut (dyn Lane + 'a), DeviceError> {
        let held = self.held.take();
        // Dropped before the next one is asked for.
        let held = held.filter(|(of, _)| *of == group);
        let lane = match held {
            Some((_, lane)) => lane,
            None => staging.lane()?,
        };
        let (_, lane) = self.held.insert((group, lane));
        Ok(lane.as_mut())
    }

    /// Releases the lane if another thread waits for one.
    pub(super) fn yield_if_wanted(&mut self) {
        self.held.take_if(|(_, lane)| lane.is_wanted());
    }
}
