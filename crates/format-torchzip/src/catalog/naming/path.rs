//! Paths from the root to a tensor, as names.

use std::fmt::Write;

use crate::error::Error;
use crate::pickle::Id;
use crate::tensors::text::push_key_text;

use super::frame::Way;
use super::{Stop, Walk};

/// # Paths
impl Walk<'_> {
    /// Puts a dot between what is there and a child of a container at this depth.
    fn push_dot(&mut self, depth: usize) {
        if depth > 0 || self.has_prefix {
            self.path.push('.');
        }
    }

    /// Extends the path by what leads to a child.
    pub(super) fn push_child(&mut self, way: Way, key: Id, position: usize, depth: usize) {
        match way {
            Way::Module | Way::Pairs => self.push_key(key, depth),
            Way::Items => self.push_position(position, depth),
            Way::Args => {
                self.push_segment("args", depth);
                self.push_position(position, depth + 1);
            }
            Way::State => self.push_segment("state", depth),
            Way::Part(part) => self.push_segment(part, depth),
            Way::Key => self.path.push_str("#key"),
            // These are no children.
            Way::Scale(_) | Way::ZeroPoint(_) => {}
        }
    }

    pub(super) fn push_segment(&mut self, segment: &str, depth: usize) {
        self.push_dot(depth);
        self.path.push_str(segment);
    }

    fn push_position(&mut self, position: usize, depth: usize) {
        self.push_dot(depth);
        // Writing into a string cannot fail.
        let _ = write!(self.path, "{position}");
    }

    fn push_key(&mut self, key: Id, depth: usize) {
        let ceiling = self.limits.name_bytes.saturating_add(1);
        let before = self.path.len();
        self.push_dot(depth);
        push_key_text(&self.objects, key, 0, ceiling, &mut self.path);
        self.spend_bytes(self.path.len() - before);
    }

    /// Cuts a path that is longer than names may be; returns whether it was.
    pub(super) fn check_length(&mut self, path_len: usize) -> bool {
        let overlong = self.path.len() > self.limits.name_bytes;
        if overlong {
            self.path.truncate(path_len);
        }
        overlong
    }

    pub(super) fn check_overlong(&self, overlong: bool) -> Result<(), Stop> {
        if overlong {
            return Err(Stop::Error(Error::Limit {
                what: "bytes of a tensor name",
                limit: self.limits.name_bytes as u64,
                found: self.limits.name_bytes as u64 + 1,
            }));
        }
        Ok(())
    }
}
