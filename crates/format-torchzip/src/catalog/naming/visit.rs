//! Visiting a node: a tensor, or a container whose children follow.

use std::borrow::Cow;

use crate::error::Error;
use crate::pickle::globals::Known;
use crate::pickle::{Id, Node};
use crate::tensors::rebuild::{Quantizer, RebuiltTensor, TensorKind};

use super::frame::{Named, Position, Way};
use super::{Content, Stop, Walk};

/// # Visiting
impl Walk<'_> {
    /// The number beside a quantized tensor that a frame represents.
    pub(super) fn number(&mut self, way: Way, at: Position) -> Option<Named> {
        let (segment, content) = match way {
            Way::Scale(scale) => ("scale", Content::Scale(scale)),
            Way::ZeroPoint(zero_point) => ("zero_point", Content::ZeroPoint(zero_point)),
            _ => return None,
        };
        self.push_segment(segment, at.depth);
        Some(Named {
            object: None,
            content,
            requires_grad: false,
            converted_to: None,
            depth: at.depth + 1,
        })
    }

    /// Returns a node that is a tensor; of another, prepares the visit of its children.
    pub(super) fn visit(&mut self, id: Id, at: Position) -> Result<Option<Named>, Stop> {
        if at.depth > self.limits.pickle_depth {
            return Err(Stop::Error(Error::Limit {
                what: "nesting of a pickle's objects",
                limit: self.limits.pickle_depth as u64,
                found: at.depth as u64,
            }));
        }
        match self.objects.arena.node(id) {
            Node::Persistent(_) if self.objects.arena.as_global(id).is_some() => Ok(None),
            Node::Persistent(_) => self.storage(id, at).map(Some),
            Node::Object(_) => self.visit_object(id, at),
            Node::Dict(_) => {
                self.enter(id, true, |walk, leaves| {
                    let ids = walk.distinct(id);
                    walk.push(Way::Pairs, ids, at, Some(leaves));
                    walk.push_attributes(id, at);
                });
                Ok(None)
            }
            Node::List(_) | Node::Tuple { .. } | Node::Set(_) => {
                let ids = self.objects.arena.items(id).unwrap_or(&[]);
                self.enter(id, false, |walk, leaves| {
                    walk.push(Way::Items, Cow::Borrowed(ids), at, Some(leaves));
                    walk.push_attributes(id, at);
                });
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn visit_object(&mut self, id: Id, at: Position) -> Result<Option<Named>, Stop> {
        let fail = |problem| Error::tensor(&self.path, problem);
        if let Some(dense) = self.objects.plain_tensor(id).map_err(fail)? {
            self.check_overlong(at.overlong)?;
            return Ok(Some(Named {
                object: Some(id),
                requires_grad: dense.requires_grad,
                content: Content::Dense(dense),
                converted_to: None,
                depth: at.depth,
            }));
        }
        if let Some(tensor) = self.objects.tensor(id).map_err(fail)? {
            self.check_overlong(at.overlong)?;
            return Ok(self.tensor(id, tensor, at));
        }
        match self.objects.arena.as_object(id) {
            Some((_, Known::LoadFromBytes)) => self.storage(id, at).map(Some),
            _ => {
                self.enter_object(id, at);
                Ok(None)
            }
        }
    }

    fn storage(&self, id: Id, at: Position) -> Result<Named, Stop> {
        self.check_overlong(at.overlong)?;
        Ok(Named {
            object: Some(id),
            content: Content::Storage(id),
            requires_grad: false,
            converted_to: None,
            depth: at.depth,
        })
    }

    /// Returns a tensor that has elements of its own; what is below it is visited later.
    fn tensor(&mut self, id: Id, tensor: RebuiltTensor, at: Position) -> Option<Named> {
        let RebuiltTensor { kind, wrapping } = tensor;
        for &state in wrapping.states.iter().rev() {
            self.push_state(state, false, at);
        }
        let (content, own_grad) = match kind {
            TensorKind::Dense(dense) => {
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Wrapper(dense) => {
                // What it wraps is among its attributes; without any it is all there is.
                if wrapping
                    .states
                    .iter()
                    .any(|&state| self.is_container(state))
                {
                    return None;
                }
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Quantized(dense, quantizer) => {
                self.push_quantizer(&quantizer, at);
                let grad = dense.requires_grad;
                (Content::Dense(dense), grad)
            }
            TensorKind::Parts(parts) => {
                self.push_parts(&parts, at);
                return None;
            }
            TensorKind::Array(array) => (Content::Array(array), false),
            TensorKind::Storage(inner) => (Content::Storage(inner), false),
        };
        Some(Named {
            object: Some(id),
            content,
            requires_grad: wrapping.requires_grad.unwrap_or(own_grad),
            converted_to: wrapping.dtype,
            depth: at.depth,
        })
    }

    fn push_quantizer(&mut self, quantizer: &Quantizer, at: Position) {
        // The last pushed is visited first.
        match *quantizer {
            Quantizer::PerTensor { scale, zero_point } => {
                let nothing = || Cow::Borrowed(&[Id::NONE][..]);
                self.push(Way::ZeroPoint(zero_point), nothing(), at, None);
                self.push(Way::Scale(scale), nothing(), at, None);
            }
            Quantizer::PerChannel {
                scales,
                zero_points,
            } => self.push_parts(&[("scales", scales), ("zero_points", zero_points)], at),
        }
    }

    /// The parts get frames of their own, since what they hold is visited later.
    fn push_parts(&mut self, parts: &[(&'static str, Id)], at: Position) {
        for &(part, id) in parts.iter().rev() {
            self.push(Way::Part(part), Cow::Owned(vec![id]), at, None);
        }
    }
}
