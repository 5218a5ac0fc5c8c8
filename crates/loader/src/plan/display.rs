use std::fmt;

use super::{GroupMemory, Plan, SegmentSource};

/// A line for each group and each segment.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} tensors, {} bytes wanted, {} bytes to read in {} segments",
            self.places.len(),
            self.bytes_wanted,
            self.bytes_to_read,
            self.segments.len(),
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
                let to = segment.to;
                match segment.from {
                    SegmentSource::Stored(extent) => {
                        write!(f, "  shard {} bytes {extent} -> {to}", extent.shard.0)?;
                    }
                    SegmentSource::Deflated(extent) => write!(
                        f,
                        "  shard {} bytes {extent} inflated to {} bytes -> {to}",
                        extent.shard.0, segment.len
                    )?,
                    SegmentSource::Inline(_) => {
                        write!(f, "  {} bytes of the catalog -> {to}", segment.len)?;
                    }
                }
                writeln!(
                    f,
                    "{}",
                    if segment.fix.is_some() {
                        ", mended"
                    } else {
                        ""
                    }
                )?;
            }
        }
        Ok(())
    }
}
