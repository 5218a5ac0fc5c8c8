use std::fmt;

use super::{GroupMemory, Plan, Segment, SegmentSource};
use crate::report::plural;

/// A line for each group and each segment.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {}, {} bytes wanted, {} bytes to read in {} {}",
            self.places.len(),
            plural(self.places.len(), "tensor", "tensors"),
            self.bytes_wanted,
            self.bytes_to_read,
            self.segments.len(),
            plural(self.segments.len(), "segment", "segments"),
        )?;
        for (index, group) in self.groups.iter().enumerate() {
            match group.memory {
                GroupMemory::Device(device) => {
                    writeln!(f, "group {index}: {} bytes on device {device}", group.bytes)?;
                }
                GroupMemory::Mapped(shard) => {
                    writeln!(f, "group {index}: a mapping of shard {}", shard.0)?;
                }
            }
            let first = self
                .segments
                .partition_point(|segment| segment.group < index);
            for segment in self.segments[first..]
                .iter()
                .take_while(|next| next.group == index)
            {
                write_segment(f, segment)?;
            }
        }
        Ok(())
    }
}

fn write_segment(f: &mut fmt::Formatter<'_>, segment: &Segment) -> fmt::Result {
    let Segment { to, len, .. } = segment;
    match segment.from {
        SegmentSource::Stored(extent) => write!(f, "  shard {} bytes {extent}", extent.shard.0)?,
        SegmentSource::Deflated { extent, len } => write!(
            f,
            "  shard {} bytes {extent} inflated to {len} bytes",
            extent.shard.0
        )?,
        SegmentSource::Inline(_) => write!(f, "  {len} bytes of the catalog")?,
    }
    if segment.selection.is_some() {
        write!(f, ", {len} of them")?;
    }
    write!(f, " -> {to}")?;
    if segment.transform.is_some() {
        f.write_str(", transformed")?;
    }
    writeln!(f)
}
