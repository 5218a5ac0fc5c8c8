//! Reading a file, format by format.

use std::io::{Read, Seek, SeekFrom};

use std::sync::Arc;

use tensorlift_storage::{Anonymous, Cursor, Storage, StorageExt};
use tensorlift_tensor_meta::ByteOrder;

use crate::catalog::roots::{self, ModelRoot, Root};
use crate::catalog::{self, FileCatalog, Tree};
use crate::container::legacy::{self, LegacyPickles, Pickles, pickle_error};
use crate::container::storages::Storages;
use crate::container::tar;
use crate::container::unclaimed::{Unclaimed, UnclaimedPlace};
use crate::error::{Error, Result};
use crate::pickle::{Arena, Ceilings, DescriptionBudget, Id, Machine, PickleProblem, Policy};
use crate::state::{FirstNames, State};
use crate::tensors::objects::Objects;

use super::file::{Format, ReadOptions, TorchFile};

/// The first part of a file without a directory that is read, in bytes.
const FIRST_WINDOW: u64 = 1 << 20;

pub(super) struct TorchReader<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) options: &'a ReadOptions,
    pub(super) budget: DescriptionBudget,
    /// Bytes that no part of the file claims.
    pub(super) unclaimed: Vec<Unclaimed>,
}

/// The objects of a pickle, and the bytes they were read from.
pub(super) struct Parsed {
    pub(super) arena: Arena,
    pub(super) root: Id,
    pub(super) bytes: Anonymous,
}

impl TorchReader<'_> {
    /// A file that begins with a pickle: that alone, or those of the legacy format.
    pub(super) fn pickles(&mut self) -> Result<TorchFile> {
        let options = self.options;
        let (bytes, pickles) = self.windowed(|bytes, budget| {
            legacy::pickles(bytes, options.policy, &options.limits, budget)
        })?;
        match pickles {
            Pickles::Legacy(pickles) => self.legacy(&bytes, pickles),
            Pickles::Bare {
                mut arena,
                root,
                len,
            } => {
                self.budget = arena.take_budget();
                self.read_behind(len as u64, UnclaimedPlace::Pickle)?;
                let bytes = self.keep(&bytes, len)?;
                let parsed = Parsed { arena, root, bytes };
                self.list(parsed, &Storages::Nowhere, Some(0), Format::Pickle)
            }
        }
    }

    fn legacy(&mut self, bytes: &[u8], mut pickles: LegacyPickles) -> Result<TorchFile> {
        self.budget = pickles.arena.take_budget();
        let len = self.storage.len();
        let mut cursor = Cursor::new(self.storage);
        let shard = tensorlift_tensor_meta::ShardId::FIRST;
        let file = legacy::locate(pickles, bytes, len, shard, |at| {
            let mut count = [0; 8];
            cursor
                .seek(SeekFrom::Start(at))
                .and_then(|_| cursor.read_exact(&mut count))
                .map_err(|source| Error::io("the length of a storage", source))?;
            Ok(u64::from_le_bytes(count))
        })?;
        self.read_behind(file.end, UnclaimedPlace::Storages)?;
        self.budget
            .grow_for(file.storages.extents.len() as u64, len);
        let storages = Storages::Legacy(file.storages);
        let parsed = Parsed {
            arena: file.arena,
            root: file.root,
            bytes: self.keep(bytes, file.pickle_len)?,
        };
        self.list(parsed, &storages, Some(0), Format::Legacy)
    }

    pub(super) fn tar(&mut self) -> Result<TorchFile> {
        let options = self.options;
        let tar = tar::open(
            self.storage,
            options.policy,
            &options.limits,
            &mut self.budget,
        )?;
        self.check_pickle_len(tar.pickle.len)?;
        self.budget.charge(tar.pickle.len).map_err(Error::budget)?;
        let io = |source| Error::io("the pickle of the tar archive", source);
        let mut bytes = Anonymous::new(tar.pickle.len as usize).map_err(io)?;
        self.storage
            .read_exact_at(tar.pickle.offset, &mut bytes)
            .map_err(io)?;
        let (arena, root, len) = self.run(&bytes, "the object's pickle")?;
        self.check_behind(&bytes, len, tar.pickle.offset)?;
        let parsed = Parsed { arena, root, bytes };
        let storages = Storages::Tar(tar.objects);
        self.list(parsed, &storages, Some(tar.pickle.offset), Format::Tar)
    }

    /// Examines the bytes after the last part of a file.
    fn read_behind(&mut self, end: u64, place: UnclaimedPlace) -> Result<()> {
        let limits = &self.options.limits;
        let behind = legacy::behind(self.storage, end, place, limits, self.budget.clone())?;
        self.unclaimed.extend(behind);
        Ok(())
    }

    /// Parses the beginning of a file, reading more of it while it is too short.
    fn windowed<T>(
        &mut self,
        parse: impl Fn(&[u8], DescriptionBudget) -> Result<T>,
    ) -> Result<(Anonymous, T)> {
        let file_len = self.storage.len();
        let ceiling = file_len
            .min(self.options.limits.pickle_bytes)
            .min(u64::from(u32::MAX) - 1);
        let mut len = ceiling.min(FIRST_WINDOW);
        loop {
            let mut budget = self.budget.clone();
            budget.charge(len).map_err(Error::budget)?;
            let io = |source| Error::io("the pickle", source);
            let mut bytes = Anonymous::new(len as usize).map_err(io)?;
            self.storage.read_exact_at(0, &mut bytes).map_err(io)?;
            match parse(&bytes, budget) {
                Err(Error::Pickle {
                    problem: PickleProblem::Truncated,
                    ..
                }) if len < file_len => {
                    if len == ceiling {
                        return self
                            .check_pickle_len(file_len)
                            .and(Err(Error::CutShort { len: file_len }));
                    }
                    len = ceiling.min(len * 8);
                }
                parsed => return Ok((bytes, parsed?)),
            }
        }
    }

    /// The bytes of the pickle alone.
    fn keep(&mut self, bytes: &[u8], len: usize) -> Result<Anonymous> {
        let mut kept = Anonymous::new(len).map_err(|source| Error::io("the pickle", source))?;
        kept.copy_from_slice(&bytes[..len]);
        self.budget.refund((bytes.len() - len) as u64);
        Ok(kept)
    }

    pub(super) fn run(&mut self, bytes: &[u8], name: &'static str) -> Result<(Arena, Id, usize)> {
        let budget = std::mem::take(&mut self.budget);
        let (mut arena, root, len) = run(bytes, name, self.options, budget)?;
        self.budget = arena.take_budget();
        Ok((arena, root, len))
    }

    /// Examines the bytes after a pickle of `len` bytes that was read from `at`.
    pub(super) fn check_behind(&mut self, bytes: &[u8], len: usize, at: u64) -> Result<()> {
        let rest = &bytes[len..];
        let offset = at + len as u64;
        if rest.is_empty() {
            return Ok(());
        }
        if legacy::is_object(rest, &self.options.limits, self.budget.clone())? {
            return Err(Error::SecondObject { offset });
        }
        self.unclaimed.push(Unclaimed {
            offset,
            byte_len: rest.len() as u64,
            place: UnclaimedPlace::Pickle,
            zeros: rest.iter().all(|&byte| byte == 0),
        });
        Ok(())
    }

    pub(super) fn check_pickle_len(&self, len: u64) -> Result<()> {
        let limit = self
            .options
            .limits
            .pickle_bytes
            .min(u64::from(u32::MAX) - 1);
        if len > limit {
            return Err(Error::Limit {
                what: "bytes of a pickle",
                limit,
                found: len,
            });
        }
        Ok(())
    }

    fn list(
        &mut self,
        parsed: Parsed,
        storages: &Storages<'_>,
        pickle_at: Option<u64>,
        format: Format,
    ) -> Result<TorchFile> {
        let tree = Tree {
            objects: parsed.objects(),
            root: parsed.root,
            prefix: "",
            storages,
            byte_order: ByteOrder::Little,
            pickle_at,
        };
        let listed = catalog::list(&[tree], &self.options.limits, self.budget.clone())?;
        self.finish(listed, parsed, format)
    }

    pub(super) fn finish(
        &mut self,
        listed: FileCatalog,
        parsed: Parsed,
        format: Format,
    ) -> Result<TorchFile> {
        let unclaimed = std::mem::take(&mut self.unclaimed);
        if let (Policy::Strict, Some(first)) = (self.options.policy, unclaimed.first()) {
            return Err(Error::Unclaimed(*first));
        }
        let FileCatalog {
            catalog,
            first_names,
            mut roots,
            aliases_omitted,
            budget,
        } = listed;
        roots::sort(&mut roots);
        let ModelRoot { root, passed_over } = roots::choose(&roots, &catalog);
        roots.retain(Root::is_mapping);
        let catalog = Arc::new(catalog);
        let state = State::new(
            parsed.arena,
            parsed.bytes,
            parsed.root,
            FirstNames {
                catalog: Arc::clone(&catalog),
                entries: first_names,
            },
            self.options.limits.expanded_nodes,
            budget.left(),
        );
        Ok(TorchFile {
            catalog,
            state,
            format,
            roots,
            automatic_root: root,
            other_models: passed_over,
            aliases_omitted,
            unclaimed,
        })
    }
}

impl Parsed {
    pub(super) fn objects(&self) -> Objects<'_> {
        Objects {
            arena: &self.arena,
            pickle: &self.bytes,
        }
    }
}

/// Runs a pickle at the beginning of `bytes`; returns its objects and its length.
fn run(
    bytes: &[u8],
    name: &'static str,
    options: &ReadOptions,
    budget: DescriptionBudget,
) -> Result<(Arena, Id, usize)> {
    let ceilings = Ceilings::of(&options.limits);
    let mut machine = Machine::new(bytes, ceilings, options.policy, budget);
    machine.expect_tensors().map_err(Error::budget)?;
    let root = machine.run().map_err(|error| pickle_error(name, error))?;
    let len = machine.position();
    Ok((machine.into_arena(), root, len))
}
