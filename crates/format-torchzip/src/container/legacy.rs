//! The format of `torch.save` before 1.6: five pickles in a row, then the storages.
//!
//! The pickles are a magic number, a version, facts about the machine, the object, and the list
//! of storage keys. Each storage is its element count in eight bytes and its elements. The
//! facts about the machine, its byte order among them, are ignored, as `torch.load` does.

use hashbrown::HashMap;
use tensorlift_tensor_meta::{Extent, Limits, ShardId};

use crate::container::storages::LegacyStorages;
use crate::error::{Error, Result};
use crate::pickle::{
    Arena, Budget, Ceilings, Id, Machine, Node, PickleError, PickleProblem, Policy, display_text,
};
use crate::rebuild::Objects;

/// `0x1950a86a20f9469cfc6c`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same number in decimal.
const MAGIC_DECIMAL: &[u8] = b"119547037146038801333356";
/// The only version there ever was.
const PROTOCOL_VERSION: i64 = 1001;
/// The element count before each storage, in bytes.
const COUNT_BYTES: u64 = 8;

/// A legacy file whose storages were found.
pub(crate) struct LegacyFile {
    pub(crate) arena: Arena,
    pub(crate) root: Id,
    pub(crate) storages: LegacyStorages,
    /// The bytes that the pickles take.
    pub(crate) pickle_len: usize,
}

/// The five pickles of a legacy file.
pub(crate) struct Pickles {
    pub(crate) arena: Arena,
    root: Id,
    keys: Id,
    len: usize,
}

/// Whether a file begins with the pickled magic number.
pub(crate) fn starts_with_magic(prefix: &[u8]) -> bool {
    let body = match prefix {
        [0x80, _, 0x95, _, _, _, _, _, _, _, _, rest @ ..] | [0x80, _, rest @ ..] => rest,
        rest => rest,
    };
    match body {
        [0x8a, 10, rest @ ..] => rest.starts_with(&MAGIC),
        [b'L', rest @ ..] => rest.starts_with(MAGIC_DECIMAL),
        _ => false,
    }
}

/// Reads a legacy file that is in memory as a whole.
pub(crate) fn parse(
    bytes: &[u8],
    len: u64,
    shard: ShardId,
    limits: &Limits,
    budget: Budget,
) -> Result<LegacyFile> {
    let pickles = pickles(bytes, Policy::Inert, limits, budget)?;
    locate(pickles, bytes, len, shard, |at| {
        let count = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..)?.first_chunk::<8>());
        count
            .map(|count| u64::from_le_bytes(*count))
            .ok_or(Error::CutShort { len })
    })
}

/// Runs the five pickles at the beginning of `bytes`.
pub(crate) fn pickles(
    bytes: &[u8],
    policy: Policy,
    limits: &Limits,
    budget: Budget,
) -> Result<Pickles> {
    let mut machine = Machine::new(bytes, Ceilings::of(limits), policy, budget);
    let run = |machine: &mut Machine<'_>, pickle: &'static str| {
        let root = machine.run();
        root.map_err(|error| pickle_error(pickle, error))
    };
    let magic = run(&mut machine, "the magic number")?;
    if !is_magic(machine.arena(), bytes, magic) {
        return Err(unexpected(
            "the magic number",
            "the magic number",
            machine.arena(),
            magic,
        ));
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
    Ok(Pickles {
        arena,
        root,
        keys,
        len,
    })
}

/// Finds the storages behind the pickles; `count_at` reads an element count.
pub(crate) fn locate(
    pickles: Pickles,
    bytes: &[u8],
    len: u64,
    shard: ShardId,
    mut count_at: impl FnMut(u64) -> Result<u64>,
) -> Result<LegacyFile> {
    let Pickles {
        arena,
        root,
        keys,
        len: pickle_len,
    } = pickles;
    let objects = Objects {
        arena: &arena,
        pickle: bytes,
    };
    // The first mention of a key tells its type, as it does for `torch.load`.
    let mut mentioned: HashMap<&[u8], (u64, u64)> = HashMap::new();
    for id in arena.ids() {
        if let Node::Persistent(pid) = arena.node(id)
            && let Ok(storage) = objects.storage_id(pid)
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
        let key = arena
            .string_bytes(bytes, key)
            .ok_or_else(|| unexpected("the list of storages", "a storage key", &arena, key))?;
        let name = || display_text(key).into_owned();
        let &(declared, element) = mentioned.get(key).ok_or_else(|| {
            Error::Layout(format!(
                "storage {:?} is listed, but no object mentions it",
                name()
            ))
        })?;
        let data = position
            .checked_add(COUNT_BYTES)
            .filter(|&data| data <= len)
            .ok_or(Error::CutShort { len })?;
        let count = count_at(position)?;
        if count != declared {
            return Err(Error::Layout(format!(
                "storage {:?} should have {declared} elements, found {count}",
                name()
            )));
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
            return Err(Error::Layout(format!(
                "storage {:?} is listed twice",
                name()
            )));
        }
        position = end;
    }
    drop(mentioned);
    Ok(LegacyFile {
        arena,
        root,
        storages,
        pickle_len,
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

fn is_magic(arena: &Arena, bytes: &[u8], id: Id) -> bool {
    match arena.node(id) {
        Node::BigInt(span) => {
            let digits = arena.bytes(bytes, span);
            let (low, high) = digits.split_at(MAGIC.len().min(digits.len()));
            low == MAGIC && high.iter().all(|&byte| byte == 0)
        }
        Node::BigText(span) => arena.bytes(bytes, span) == MAGIC_DECIMAL,
        _ => false,
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
