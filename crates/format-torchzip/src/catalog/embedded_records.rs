//! Records of bytes that lie within the pickle.

use std::sync::Arc;

use tensorlift_tensor_meta::{ByteOrder, Dtype, Extent, Layout, Record, RecordId, ShardId};

use crate::error::{Error, Result};
use crate::pickle::globals::Known;
use crate::pickle::{Id, Node, latin1_bytes};
use crate::tensors::TensorProblem;
use crate::tensors::embedded::{self, Embedded};
use crate::tensors::numpy::{self, Array};
use crate::tensors::objects::Objects;

use super::cataloger::{Resolved, TreeCataloger};

/// # Bytes within the pickle
impl TreeCataloger<'_, '_> {
    pub(super) fn embedded_storage(&mut self, name: &str, id: Id) -> Result<Resolved> {
        if let Some(&(ref embedded, record)) = self.embedded.get(&id) {
            return Ok(resolved(embedded, record));
        }
        let args = match self.objects.arena.as_object(id) {
            Some((object, _)) => self.objects.arena.tuple_items(object.args),
            None => None,
        };
        let bytes = *args.and_then(<[Id]>::first).ok_or_else(|| {
            let problem = self.objects.argument("_load_from_bytes", "bytes", &[id]);
            Error::tensor(name, problem)
        })?;
        let (embedded, record) = match self.raw_bytes(name, bytes)? {
            Raw::InFile(extent) => {
                let bytes = self.objects.arena.string_bytes(self.objects.pickle, bytes);
                let bytes = bytes.unwrap_or(&[]);
                let found = embedded::read(bytes, self.all.limits, &self.all.budget)?;
                let extent = extent.slice(found.offset, found.len).unwrap_or(extent);
                (found, self.all.record(name, Record::stored(extent))?)
            }
            Raw::Decoded(bytes) => {
                let found = embedded::read(&bytes, self.all.limits, &self.all.budget)?;
                let part = &bytes[found.offset as usize..][..found.len as usize];
                let record = self.all.inline(name, part.into())?;
                (found, record)
            }
        };
        let answer = resolved(&embedded, record);
        self.embedded.insert(id, (embedded, record));
        Ok(answer)
    }

    /// The record of an array's bytes, as elements of `dtype`.
    pub(super) fn array_record(
        &mut self,
        name: &str,
        array: &Array,
        dtype: Dtype,
    ) -> Result<RecordId> {
        let raw = self.raw_bytes(name, array.bytes)?;
        let len = match &raw {
            Raw::InFile(extent) => extent.len,
            Raw::Decoded(bytes) => bytes.len() as u64,
        };
        let layout =
            Layout::contiguous(&array.shape).map_err(|error| Error::tensor(name, error.into()))?;
        let wanted = layout.contiguous_bytes(array.dtype).unwrap_or(u64::MAX);
        if wanted != len {
            return Err(Error::tensor(
                name,
                TensorProblem::StorageSize {
                    key: "the array's bytes".to_owned(),
                    declared: wanted,
                    found: len,
                },
            ));
        }
        if dtype != array.dtype {
            let bytes = match &raw {
                Raw::Decoded(bytes) => bytes,
                Raw::InFile(_) => {
                    let bytes = self
                        .objects
                        .arena
                        .string_bytes(self.objects.pickle, array.bytes);
                    bytes.unwrap_or(&[])
                }
            };
            self.all.budget.charge(len / 2).map_err(Error::budget)?;
            let narrow = narrowed(bytes, array.byte_order).ok_or_else(|| {
                Error::tensor(
                    name,
                    TensorProblem::Conversion {
                        found: array.dtype.to_string(),
                        wanted: dtype.to_string(),
                    },
                )
            })?;
            return self.all.inline(name, narrow);
        }
        match raw {
            Raw::InFile(extent) => self.all.record(name, Record::stored(extent)),
            Raw::Decoded(bytes) => self.all.inline(name, bytes),
        }
    }

    /// The bytes that an object represents: where they lie in the file, or decoded.
    fn raw_bytes(&mut self, name: &str, id: Id) -> Result<Raw> {
        let Objects { arena, pickle } = self.objects;
        let wrong = || {
            let problem = self.objects.argument("an array", "bytes", &[id]);
            Error::tensor(name, problem)
        };
        if let Node::Bytes(span) | Node::Str8(span) = arena.node(id) {
            if let Some(at) = self.pickle_at.filter(|_| arena.is_raw(span)) {
                let offset = at + u64::from(span.start);
                let extent = Extent::new(ShardId::FIRST, offset, span.len.into());
                return Ok(Raw::InFile(extent));
            }
            self.all
                .budget
                .charge(span.len.into())
                .map_err(Error::budget)?;
            return Ok(Raw::Decoded(arena.bytes(pickle, span).into()));
        }
        if is_empty_call(&self.objects, id) {
            return Ok(Raw::Decoded(Arc::default()));
        }
        let text = numpy::encoded_text(&self.objects, id).ok_or_else(wrong)?;
        let text = arena.string_bytes(pickle, text).ok_or_else(wrong)?;
        // The growing and the final copy.
        let most = 2 * text.len() as u64;
        self.all.budget.charge(most).map_err(Error::budget)?;
        let mut bytes = Vec::with_capacity(text.len());
        latin1_bytes(text, &mut bytes).ok_or_else(wrong)?;
        self.all.budget.refund(most - bytes.len() as u64);
        Ok(Raw::Decoded(bytes.into()))
    }
}

enum Raw {
    InFile(Extent),
    Decoded(Arc<[u8]>),
}

fn resolved(embedded: &Embedded, record: RecordId) -> Resolved {
    Resolved {
        record,
        base: 0,
        len: embedded.len,
        kind: embedded.kind,
    }
}

/// The upper halves of F32 numbers whose lower halves are zero: BF16 as PyTorch hands it to
/// NumPy. `None` where a number would change.
fn narrowed(bytes: &[u8], order: ByteOrder) -> Option<Arc<[u8]>> {
    let mut halves = Vec::with_capacity(bytes.len() / 2);
    for number in bytes.chunks_exact(4) {
        let (upper, lower) = match order {
            ByteOrder::Little => (&number[2..], &number[..2]),
            ByteOrder::Big => (&number[..2], &number[2..]),
        };
        if lower != [0, 0] {
            return None;
        }
        halves.extend_from_slice(upper);
    }
    Some(halves.into())
}

/// Whether an object is `bytes()` or `bytearray()` without arguments.
fn is_empty_call(objects: &Objects<'_>, id: Id) -> bool {
    matches!(
        objects.arena.as_object(id),
        Some((object, Known::Bytearray | Known::Plain)) if object.args == Id::EMPTY_TUPLE
    )
}
