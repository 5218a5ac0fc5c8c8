//! Files that begin with a pickle: bare pickles, and the format of `torch.save` before 1.6, five
//! pickles in a row and then the storages.
//!
//! The value of the first pickle distinguishes them: the magic number, however it is encoded, or a
//! container. Any other value is an error.
//! A bare pickle ends its file: a second one after it would be lost.
//!
//! The five pickles are a magic number, a version, facts about the machine, the object, and the
//! list
//! of storage keys. Each storage is its element count in eight bytes and its elements. The
//! facts about the machine, its byte order among them, are ignored, as `torch.load` does.

use hashbrown::HashMap;
use num_bigint::BigInt;
use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{ErrorKind, Extent, Limits, ShardId};

use crate::container::LayoutProblem;
use crate::container::storages::LegacyStorages;
use crate::container::unclaimed::{self, Unclaimed, UnclaimedPlace};
use crate::error::{Error, Result};
use crate::pickle::{
    Arena, Ceilings, DescriptionBudget, Id, Machine, Node, PickleError, PickleProblem, Policy,
    display_text,
};
use crate::tensors::objects::Objects;

/// The first pickle of a legacy file.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The only version that exists.
const PROTOCOL_VERSION: i64 = 1001;
/// The element count before each storage, in bytes.
const COUNT_BYTES: u64 = 8;
/// How many bytes after a file's end are tried as another pickle.
const TRIED_BYTES: u64 = 1 << 20;

/// A legacy file whose storages were found.
pub(crate) struct LegacyFile {
    pub(crate) arena: Arena,
    pub(crate) root: Id,
    pub(crate) storages: LegacyStorages,
    /// The bytes that the pickles take.
    pub(crate) pickle_len: usize,
    /// Where the last storage ends in the file.
    pub(crate) end: u64,
}

/// The contents of a file that begins with a pickle.
pub(crate) enum Pickles {
    /// The five pickles of a legacy file.
    Legacy(LegacyPickles),
    /// A pickle alone: its objects and its length in bytes.
    Bare { arena: Arena, root: Id, len: usize },
}

/// The five pickles of a legacy file.
pub(crate) struct LegacyPickles {
    pub(crate) arena: Arena,
    root: Id,
    keys: Id,
    len: usize,
}

/// Whether the first pickle of a file is the magic number.
pub(crate) fn begins_with_magic(prefix: &[u8]) -> bool {
    let limits = Limits::default();
    let budget = DescriptionBudget::for_file(prefix.len() as u64, limits.description_bytes);
    let mut machine = Machine::new(prefix, Ceilings::of(&limits), Policy::Inert, budget);
    let first = machine.run().ok();
    first.and_then(|first| number(machine.arena(), prefix, first)) == Some(MAGIC.into())
}

/// Reads a legacy file that is in memory as a whole.
pub(crate) fn parse(
    bytes: &[u8],
    len: u64,
    shard: ShardId,
    limits: &Limits,
    budget: DescriptionBudget,
) -> Result<LegacyFile> {
    let Pickles::Legacy(pickles) = pickles(bytes, Policy::Inert, limits, budget)? else {
        return Err(Error::Layout(LayoutProblem::NoStorage {
            found: "a pickle alone".to_owned(),
        }));
    };
    locate(pickles, bytes, len, shard, |at| {
        let count = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..)?.first_chunk::<8>());
        count
            .map(|count| u64::from_le_bytes(*count))
            .ok_or(Error::CutShort { len })
    })
}

/// Runs the pickle at the beginning of `bytes`, and the next four in a legacy file.
pub(crate) fn pickles(
    bytes: &[u8],
    policy: Policy,
    limits: &Limits,
    budget: DescriptionBudget,
) -> Result<Pickles> {
    let mut machine = Machine::new(bytes, Ceilings::of(limits), policy, budget);
    machine.expect_tensors().map_err(Error::budget)?;
    let run = |machine: &mut Machine<'_>, pickle: &'static str| {
        let root = machine.run();
        root.map_err(|error| pickle_error(pickle, error))
    };
    let first = run(&mut machine, "the first pickle")?;
    match machine.arena().node(first) {
        Node::Int(_) | Node::BigInt(_) | Node::BigText(_) => {
            let number = number(machine.arena(), bytes, first);
            if number != Some(MAGIC.into()) {
                let found = number.map_or_else(|| "another".to_owned(), |it| format!("{it:#x}"));
                return Err(Error::Magic { found });
            }
        }
        Node::Tuple { .. }
        | Node::List(_)
        | Node::Set(_)
        | Node::Dict(_)
        | Node::Object(_)
        | Node::Persistent(_) => {
            return Ok(Pickles::Bare {
                len: machine.position(),
                arena: machine.into_arena(),
                root: first,
            });
        }
        _ => {
            return Err(Error::NoContainer {
                found: machine.arena().type_name(first),
            });
        }
    }
    let version = run(&mut machine, "the protocol version")?;
    if machine.arena().as_int(version) != Some(PROTOCOL_VERSION) {
        return Err(unexpected(
            "the protocol version",
            "version 1001",
            machine.arena(),
            version,
        ));
    }
    run(&mut machine, "the machine's facts")?;
    let root = run(&mut machine, "the object's pickle")?;
    let keys = run(&mut machine, "the list of storages")?;
    let len = machine.position();
    let arena = machine.into_arena();
    if arena.items(keys).is_none() {
        return Err(unexpected("the list of storages", "a list", &arena, keys));
    }
    Ok(Pickles::Legacy(LegacyPickles {
        arena,
        root,
        keys,
        len,
    }))
}

/// Finds the storages after the pickles; `count_at` reads an element count.
pub(crate) fn locate(
    pickles: LegacyPickles,
    bytes: &[u8],
    len: u64,
    shard: ShardId,
    mut count_at: impl FnMut(u64) -> Result<u64>,
) -> Result<LegacyFile> {
    let LegacyPickles {
        arena,
        root,
        keys,
        len: pickle_len,
    } = pickles;
    let objects = Objects {
        arena: &arena,
        pickle: bytes,
    };
    // The first mention of a key decides its type, as in `torch.load`.
    let mut mentioned: HashMap<&[u8], (u64, u64)> = HashMap::new();
    for id in arena.ids() {
        if let Node::Persistent(pid) = arena.node(id)
            && let Ok(storage) = objects.named_storage(pid)
        {
            let element = storage.kind.element_bytes();
            mentioned
                .entry(storage.key)
                .or_insert((storage.elements, element));
        }
    }
    let mut storages = LegacyStorages::default();
    storages.by_key.reserve(mentioned.len());
    storages.extents.reserve(mentioned.len());
    let mut position = pickle_len as u64;
    for &key in arena.items(keys).unwrap_or(&[]) {
        let key = objects
            .storage_key(key)
            .map_err(|_| unexpected("the list of storages", "a storage key", &arena, key))?;
        let name = || display_text(key).into_owned();
        let &(declared, element) = mentioned
            .get(key)
            .ok_or_else(|| Error::Layout(LayoutProblem::Unmentioned { key: name() }))?;
        let data = position
            .checked_add(COUNT_BYTES)
            .filter(|&data| data <= len)
            .ok_or(Error::CutShort { len })?;
        let count = count_at(position)?;
        if count != declared {
            return Err(Error::Layout(LayoutProblem::ElementCount {
                key: name(),
                declared,
                found: count,
            }));
        }
        let end = count
            .checked_mul(element)
            .and_then(|size| data.checked_add(size))
            .filter(|&end| end <= len)
            .ok_or(Error::CutShort { len })?;
        let extent = Extent::new(shard, data, end - data);
        let place = storages.extents.len();
        storages.extents.push(extent);
        if storages.by_key.insert(Box::from(key), place).is_some() {
            return Err(Error::Layout(LayoutProblem::ListedTwice { key: name() }));
        }
        position = end;
    }
    drop(mentioned);
    Ok(LegacyFile {
        arena,
        root,
        storages,
        pickle_len,
        end: position,
    })
}

/// The error of a pickle, with the pickle's name.
pub(crate) fn pickle_error(pickle: &'static str, error: PickleError) -> Error {
    Error::Pickle {
        pickle,
        offset: error.offset as u64,
        problem: error.problem,
    }
}

/// The value of an integer.
fn number(arena: &Arena, bytes: &[u8], id: Id) -> Option<BigInt> {
    match arena.node(id) {
        Node::Int(value) => Some(value.into()),
        Node::BigInt(span) => Some(BigInt::from_signed_bytes_le(arena.bytes(bytes, span))),
        Node::BigText(span) => BigInt::parse_bytes(arena.bytes(bytes, span).trim_ascii(), 10),
        _ => None,
    }
}

/// Checks the bytes after the end of a file at `offset`: another pickle or an archive is an error,
/// other bytes are reported to the caller.
pub(crate) fn behind(
    storage: &dyn Storage,
    offset: u64,
    place: UnclaimedPlace,
    limits: &Limits,
    budget: DescriptionBudget,
) -> Result<Option<Unclaimed>> {
    let Some(byte_len @ 1..) = storage.len().checked_sub(offset) else {
        return Ok(None);
    };
    let io = |source| Error::io("the bytes behind the pickle", source);
    let mut head = vec![0; byte_len.min(TRIED_BYTES) as usize];
    storage.read_exact_at(offset, &mut head).map_err(io)?;
    if is_object(&head, limits, budget)? {
        return Err(Error::SecondObject { offset });
    }
    let zeros = unclaimed::scan(storage, (offset, byte_len), 0, io, |_, _| Ok(()))?;
    Ok(Some(Unclaimed {
        offset,
        byte_len,
        place,
        zeros,
    }))
}

/// Whether another object follows the one that was read: a pickle, which begins with a protocol
/// mark or can be run to its end, or a zip archive, which other readers find from the file's end.
///
/// # Errors
/// A crossed limit: with a higher one there may be an object.
pub(crate) fn is_object(bytes: &[u8], limits: &Limits, budget: DescriptionBudget) -> Result<bool> {
    if matches!(bytes, [0x80, 0..=5, ..]) || bytes.starts_with(b"PK\x03\x04") {
        return Ok(true);
    }
    let mut machine = Machine::new(bytes, Ceilings::of(limits), Policy::Inert, budget);
    match machine.run() {
        Ok(_) => Ok(true),
        Err(error) => match pickle_error("the bytes behind the pickle", error) {
            error if error.kind() == ErrorKind::LimitExceeded => Err(error),
            _ => Ok(false),
        },
    }
}

fn unexpected(pickle: &'static str, expected: &'static str, arena: &Arena, id: Id) -> Error {
    Error::Pickle {
        pickle,
        offset: 0,
        problem: PickleProblem::Unexpected {
            expected,
            found: arena.type_name(id),
        },
    }
}
