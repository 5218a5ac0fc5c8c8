//! Records: each storage once, however many names it has.

use std::sync::Arc;

use tensorlift_tensor_meta::{CatalogError, Record, RecordId, ShardId, Source};

use crate::container::storages::{StorageIndex, Storages};
use crate::error::{Error, Result};
use crate::pickle::globals::{Known, StorageType};
use crate::pickle::{Id, Node, display_text};
use crate::tensors::TensorProblem;
use crate::tensors::objects::NamedStorage;
use crate::tensors::rebuild::Dense;

use super::cataloger::{Cataloger, Resolved, TreeCataloger};

/// What the part of a storage costs in memory beside its key, in bytes.
const VIEW_BYTES: u64 = 128;

/// # Storages
impl TreeCataloger<'_, '_> {
    /// The storage that an object represents.
    pub(super) fn storage(&mut self, name: &str, id: Id) -> Result<Resolved> {
        let fail = |problem: TensorProblem| Error::tensor(name, problem);
        match self.objects.arena.node(id) {
            Node::Persistent(_) if matches!(self.storages, Storages::Tar(_)) => {
                self.tar_storage(name, id)
            }
            Node::Persistent(pid) => {
                let storage = self.objects.named_storage(pid).map_err(fail)?;
                let found = self.storages.find(&storage, self.next).map_err(fail)?;
                if let StorageIndex::Entry(place) = found.place {
                    self.next = place + 1;
                }
                self.check_view(name, &storage, &found.place, (found.base, found.len))?;
                let record = self.record(name, &found.place, storage.kind)?;
                if found.len > 0 {
                    self.check_type(&storage, &found.place).map_err(fail)?;
                }
                Ok(Resolved {
                    record,
                    base: found.base,
                    len: found.len,
                    kind: storage.kind,
                })
            }
            Node::Object(_)
                if matches!(
                    self.objects.arena.as_object(id),
                    Some((_, Known::LoadFromBytes))
                ) =>
            {
                self.embedded_storage(name, id)
            }
            _ => Err(fail(self.objects.argument(
                "a rebuild function",
                "a storage",
                &[id],
            ))),
        }
    }

    /// The first mention of a storage decides its type, as in PyTorch: a different type later would
    /// give its bytes a different meaning.
    fn check_type(
        &self,
        storage: &NamedStorage<'_>,
        place: &StorageIndex,
    ) -> Result<(), TensorProblem> {
        let &StorageIndex::Entry(place) = place else {
            return Ok(());
        };
        match self.listed[place] {
            Some((_, first)) if first != storage.kind => Err(TensorProblem::Contradiction {
                key: display_text(storage.key).into_owned(),
                first: first.to_string(),
                found: storage.kind.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// A view's key names one part of one storage. PyTorch uses the first one and ignores later
    /// ones.
    fn check_view(
        &mut self,
        name: &str,
        storage: &NamedStorage<'_>,
        place: &StorageIndex,
        (base, len): (u64, u64),
    ) -> Result<()> {
        let Some(view) = storage.view else {
            return Ok(());
        };
        let found = (place.clone(), base, len, storage.kind);
        let contradiction = |first: String| {
            let problem = TensorProblem::Contradiction {
                key: display_text(view.key).into_owned(),
                first,
                found: format!("bytes {base}..{} of a {}", base + len, storage.kind),
            };
            Error::tensor(name, problem)
        };
        if self.storages.has_key(view.key) {
            return Err(contradiction("a storage of its own".to_owned()));
        }
        match self.views.get(view.key) {
            None => {
                let bytes = VIEW_BYTES + view.key.len() as u64;
                self.all.budget.charge(bytes).map_err(Error::budget)?;
                self.views.insert(view.key.into(), found);
                Ok(())
            }
            Some(first) if *first == found => Ok(()),
            Some((_, base, len, kind)) => Err(contradiction(format!(
                "bytes {base}..{} of a {kind}",
                base + len
            ))),
        }
    }

    fn tar_storage(&mut self, name: &str, id: Id) -> Result<Resolved> {
        let missing = |key| Error::tensor(name, TensorProblem::MissingStorage { key });
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
            record: self.record(name, &StorageIndex::Number(storage.root), storage.kind)?,
            base: storage.base,
            len: storage.len,
            kind: storage.kind,
        })
    }

    /// The number under which the tar layout keeps an object outside of the pickle.
    fn outside_number(&self, id: Id) -> Option<i64> {
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
    pub(super) fn outside_tensor(&self, id: Id) -> Option<Dense> {
        let Storages::Tar(tar) = self.storages else {
            return None;
        };
        let dense = tar.tensors.get(&self.outside_number(id)?)?;
        Some(Dense {
            storage: Some(id),
            ..dense.clone()
        })
    }

    fn record(&mut self, name: &str, place: &StorageIndex, kind: StorageType) -> Result<RecordId> {
        let known = match place {
            StorageIndex::Entry(entry) => self.listed[*entry].map(|(record, _)| record),
            place => self.records.get(place).copied(),
        };
        if let Some(record) = known {
            return Ok(record);
        }
        let record = self.storages.record(place)?.ok_or_else(|| {
            let key = format!("{place:?}");
            Error::tensor(name, TensorProblem::MissingStorage { key })
        })?;
        if let Source::Deflated { len, .. } = record.source {
            self.all.inflated = self.all.inflated.saturating_add(len);
            if self.all.inflated > self.all.limits.inflated_bytes {
                return Err(Error::Limit {
                    what: "bytes that compressed entries inflate to",
                    limit: self.all.limits.inflated_bytes,
                    found: self.all.inflated,
                });
            }
        }
        let id = self.all.record(name, record)?;
        match place {
            StorageIndex::Entry(entry) => self.listed[*entry] = Some((id, kind)),
            place => {
                self.records.insert(place.clone(), id);
            }
        }
        Ok(id)
    }
}

/// # Adding records
impl Cataloger<'_> {
    pub(super) fn absent_record(&mut self, name: &str) -> Result<RecordId> {
        if let Some(record) = self.absent {
            return Ok(record);
        }
        let source = Source::Absent {
            shard: ShardId::FIRST,
        };
        let record = self.unchecked_record(name, source)?;
        self.absent = Some(record);
        Ok(record)
    }

    pub(super) fn inline(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<RecordId> {
        let source = Source::Inline {
            shard: ShardId::FIRST,
            bytes,
        };
        self.unchecked_record(name, source)
    }

    /// A record without a checksum.
    fn unchecked_record(&mut self, name: &str, source: Source) -> Result<RecordId> {
        self.record(name, Record::new(source))
    }

    pub(super) fn record(&mut self, name: &str, record: Record) -> Result<RecordId> {
        self.builder
            .record(record)
            .map_err(|error: CatalogError| Error::tensor(name, error.into()))
    }
}
