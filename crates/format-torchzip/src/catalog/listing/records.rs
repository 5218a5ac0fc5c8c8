//! Records: each storage once, whatever names it.

use std::sync::Arc;

use tensorlift_tensor_meta::{CatalogError, Extent, Layout, Record, RecordId, ShardId, Source};

use crate::container::storages::{StorageIndex, Storages};
use crate::error::{Error, Result, TensorProblem};
use crate::pickle::globals::Known;
use crate::pickle::{Budget, Id, Node, latin1_bytes};
use crate::tensors::embedded::{self, Embedded};
use crate::tensors::numpy::{self, Array};
use crate::tensors::rebuild::{Dense, Objects, StorageRef};

use super::{Listing, Resolved, tensor_error};

/// # Records
impl Listing<'_> {
    pub(super) fn storage(&mut self, name: &str, id: Id, budget: &mut Budget) -> Result<Resolved> {
        let arena = self.objects.arena;
        match arena.node(id) {
            Node::Persistent(pid) => {
                if let Storages::Tar(_) = self.storages {
                    return self.tar_storage(name, id);
                }
                let fail = |problem: TensorProblem| tensor_error(name, problem);
                let storage = self.objects.storage_id(pid).map_err(fail)?;
                let found = self.storages.find(&storage, self.next).map_err(fail)?;
                if let StorageIndex::Entry(place) = found.place {
                    self.next = place + 1;
                }
                Ok(Resolved {
                    record: self.record(name, found.place)?,
                    base: found.base,
                    len: found.len,
                    kind: storage.kind,
                })
            }
            Node::Object(_) if matches!(arena.as_object(id), Some((_, Known::LoadFromBytes))) => {
                self.embedded_storage(name, id, budget)
            }
            _ => Err(tensor_error(
                name,
                self.objects
                    .argument("a rebuild function", "a storage", &[id]),
            )),
        }
    }

    fn tar_storage(&mut self, name: &str, id: Id) -> Result<Resolved> {
        let missing = |key| tensor_error(name, TensorProblem::MissingStorage { key });
        let Storages::Tar(tar) = self.storages else {
            return Err(missing(String::new()));
        };
        let number = self.outside_number(id).ok_or_else(|| missing("?".into()))?;
        let number = tar.storage_of.get(&number).copied().unwrap_or(number);
        let storage = *tar
            .storages
            .get(&number)
            .ok_or_else(|| missing(number.to_string()))?;
        Ok(Resolved {
            record: self.record(name, StorageIndex::Number(storage.root))?,
            base: storage.base,
            len: storage.len,
            kind: storage.kind,
        })
    }

    /// The number under which the tar layout keeps an object outside of the pickle.
    pub(crate) fn outside_number(&self, id: Id) -> Option<i64> {
        let arena = self.objects.arena;
        let Node::Persistent(pid) = arena.node(id) else {
            return None;
        };
        arena.as_int(pid).or_else(|| {
            let text = arena.string_bytes(self.objects.pickle, pid)?;
            std::str::from_utf8(text).ok()?.trim().parse().ok()
        })
    }

    /// The tensor that the tar layout keeps under a persistent id.
    pub(crate) fn outside_tensor(&self, id: Id) -> Option<Dense> {
        let Storages::Tar(tar) = self.storages else {
            return None;
        };
        let dense = tar.tensors.get(&self.outside_number(id)?)?;
        Some(Dense {
            storage: StorageRef::Object(id),
            ..dense.clone()
        })
    }

    pub(super) fn record(&mut self, name: &str, place: StorageIndex) -> Result<RecordId> {
        let known = match &place {
            StorageIndex::Entry(entry) => self.entry_records[*entry],
            place => self.records.get(place).copied(),
        };
        if let Some(record) = known {
            return Ok(record);
        }
        let record = self.storages.record(&place)?.ok_or_else(|| {
            let key = format!("{place:?}");
            tensor_error(name, TensorProblem::MissingStorage { key })
        })?;
        if let Source::Deflated { len, .. } = record.source {
            self.inflated = self.inflated.saturating_add(len);
            if self.inflated > self.limits.inflated_bytes {
                return Err(Error::Limit {
                    what: "bytes that compressed entries inflate to",
                    limit: self.limits.inflated_bytes,
                    found: self.inflated,
                });
            }
        }
        let id = self.add_record(name, record)?;
        match place {
            StorageIndex::Entry(entry) => self.entry_records[entry] = Some(id),
            place => {
                self.records.insert(place, id);
            }
        }
        Ok(id)
    }

    fn embedded_storage(&mut self, name: &str, id: Id, budget: &mut Budget) -> Result<Resolved> {
        if let Some(&(ref embedded, record)) = self.embedded.get(&id) {
            return Ok(resolved(embedded, record));
        }
        let args = match self.objects.arena.as_object(id) {
            Some((object, _)) => self.objects.arena.tuple_items(object.args),
            None => None,
        };
        let bytes = *args.and_then(<[Id]>::first).ok_or_else(|| {
            let problem = self.objects.argument("_load_from_bytes", "bytes", &[id]);
            tensor_error(name, problem)
        })?;
        let (embedded, record) = match self.raw_bytes(name, bytes, budget)? {
            Raw::InFile(extent) => {
                let bytes = self.objects.arena.string_bytes(self.objects.pickle, bytes);
                let found = embedded::read(bytes.unwrap_or(&[]), self.limits, budget)?;
                let extent = extent.slice(found.offset, found.len).unwrap_or(extent);
                (found, self.add_record(name, Record::stored(extent))?)
            }
            Raw::Decoded(bytes) => {
                let found = embedded::read(&bytes, self.limits, budget)?;
                let part = &bytes[found.offset as usize..][..found.len as usize];
                let record = self.inline(name, part.into())?;
                (found, record)
            }
        };
        let answer = resolved(&embedded, record);
        self.embedded.insert(id, (embedded, record));
        Ok(answer)
    }

    pub(super) fn array_bytes(
        &mut self,
        name: &str,
        array: &Array,
        budget: &mut Budget,
    ) -> Result<RecordId> {
        let raw = self.raw_bytes(name, array.bytes, budget)?;
        let len = match &raw {
            Raw::InFile(extent) => extent.len,
            Raw::Decoded(bytes) => bytes.len() as u64,
        };
        let layout =
            Layout::contiguous(&array.shape).map_err(|error| tensor_error(name, error.into()))?;
        let wanted = layout.contiguous_bytes(array.dtype).unwrap_or(u64::MAX);
        if wanted != len {
            return Err(tensor_error(
                name,
                TensorProblem::StorageSize {
                    key: "the array's bytes".to_owned(),
                    declared: wanted,
                    found: len,
                },
            ));
        }
        match raw {
            Raw::InFile(extent) => self.add_record(name, Record::stored(extent)),
            Raw::Decoded(bytes) => self.inline(name, bytes),
        }
    }

    /// The bytes an object stands for: where they lie in the file, or decoded.
    fn raw_bytes(&self, name: &str, id: Id, budget: &mut Budget) -> Result<Raw> {
        let Objects { arena, pickle } = self.objects;
        let decoded = |bytes: &[u8], budget: &mut Budget| {
            budget.charge(bytes.len() as u64).map_err(Error::budget)?;
            Ok(Raw::Decoded(bytes.into()))
        };
        match arena.node(id) {
            Node::Bytes(span) | Node::Str8(span) => match self.pickle_at {
                Some(at) if arena.is_raw(span) => Ok(Raw::InFile(Extent::new(
                    ShardId::FIRST,
                    at + u64::from(span.start),
                    span.len.into(),
                ))),
                _ => decoded(arena.bytes(pickle, span), budget),
            },
            _ => {
                let wrong = || {
                    let problem = self.objects.argument("an array", "bytes", &[id]);
                    tensor_error(name, problem)
                };
                if is_empty_call(&self.objects, id) {
                    return Ok(Raw::Decoded(Arc::default()));
                }
                let text = numpy::encoded_text(&self.objects, id).ok_or_else(wrong)?;
                let text = arena.string_bytes(pickle, text).ok_or_else(wrong)?;
                // Charged for the growing and the final copy.
                budget
                    .charge(2 * text.len() as u64)
                    .map_err(Error::budget)?;
                let mut bytes = Vec::with_capacity(text.len());
                latin1_bytes(text, &mut bytes).ok_or_else(wrong)?;
                let spare = 2 * text.len() as u64 - bytes.len() as u64;
                budget.refund(spare);
                Ok(Raw::Decoded(bytes.into()))
            }
        }
    }

    pub(super) fn absent_record(&mut self, name: &str) -> Result<RecordId> {
        if let Some(record) = self.absent {
            return Ok(record);
        }
        let record = self.add_record(
            name,
            Record {
                source: Source::Absent {
                    shard: ShardId::FIRST,
                },
                declared_crc32: None,
            },
        )?;
        self.absent = Some(record);
        Ok(record)
    }

    pub(super) fn inline(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<RecordId> {
        let source = Source::Inline {
            shard: ShardId::FIRST,
            bytes,
        };
        self.add_record(
            name,
            Record {
                source,
                declared_crc32: None,
            },
        )
    }

    fn add_record(&mut self, name: &str, record: Record) -> Result<RecordId> {
        self.builder
            .record(record)
            .map_err(|error: CatalogError| tensor_error(name, error.into()))
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

/// Whether an object is `bytes()` or `bytearray()` without arguments.
fn is_empty_call(objects: &Objects<'_>, id: Id) -> bool {
    matches!(
        objects.arena.as_object(id),
        Some((object, Known::Bytearray | Known::Plain)) if object.args == Id::EMPTY_TUPLE
    )
}
