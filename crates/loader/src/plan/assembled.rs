//! Parameters that are put together from parts of several tensors.

use super::{Place, Plan};

/// Where the parts of parameters go.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Assembly {
    /// For each entry of the catalog of parts, the parameter and the first byte in it.
    pub targets: Vec<(usize, u64)>,
    /// The size of each parameter in bytes.
    pub byte_lens: Vec<u64>,
}

impl Plan {
    /// Turns a plan with one [exact](tensorlift_device::GroupRules::exact) group for each part
    /// into one with a group for each parameter, in which the parts are next to each other.
    ///
    /// Places name parameters by position in place of entries.
    #[must_use]
    pub fn assembled(mut self, assembly: &Assembly) -> Self {
        let parts = std::mem::take(&mut self.groups);
        let places = std::mem::take(&mut self.places);
        // The parameter and the offset of each group of a part.
        let mut moved = vec![(0, 0); parts.len()];
        let mut of_parameter = vec![None; assembly.byte_lens.len()];
        for place in places {
            let (parameter, offset) = assembly.targets[place.entry];
            let group = match of_parameter[parameter] {
                Some(group) => group,
                None => {
                    let group = self.groups.len();
                    let mut whole = parts[place.group].clone();
                    if whole.bytes != assembly.byte_lens[parameter] {
                        whole.bytes = assembly.byte_lens[parameter];
                        whole.page_offset = 0;
                    }
                    self.groups.push(whole);
                    self.places.push(Place {
                        entry: parameter,
                        group,
                        offset: 0,
                        ..place
                    });
                    of_parameter[parameter] = Some(group);
                    group
                }
            };
            moved[place.group] = (group, offset);
        }
        for segment in &mut self.segments {
            let (group, offset) = moved[segment.group];
            segment.group = group;
            segment.to += offset;
        }
        self.segments
            .sort_by_key(|segment| (segment.group, segment.to));
        self.places.sort_unstable_by_key(|place| place.entry);
        self.kept.clear();
        self
    }
}
