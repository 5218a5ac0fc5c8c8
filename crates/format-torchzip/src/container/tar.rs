//! The layout of PyTorch 0.1: a tar archive of `storages`, `tensors` and `pickle`.

use tensorlift_storage::{Storage, StorageExt};
use tensorlift_tensor_meta::{Extent, Limits, ShardId};

use crate::container::LayoutProblem;
use crate::container::legacy::pickle_error;
use crate::container::storages::{TarObjects, TarStorage};
use crate::error::{Error, Result};
use crate::pickle::globals::{Known, StorageType};
use crate::pickle::{Arena, Ceilings, DescriptionBudget, Id, Machine, PickleProblem, Policy};
use crate::tensors::objects::Sizes;
use crate::tensors::rebuild::Dense;

/// Headers and data are multiples of this many bytes.
const BLOCK: u64 = 512;
/// Members of an archive; PyTorch writes four.
const MAX_MEMBERS: usize = 64;

/// The objects of a tar file outside its pickle.
pub(crate) struct Tar {
    /// Where the pickle lies.
    pub(crate) pickle: Extent,
    pub(crate) objects: TarObjects,
}

/// Whether bytes begin with a member that PyTorch writes, in the tar format before `ustar`.
pub(crate) fn is_member(prefix: &[u8]) -> bool {
    let name = prefix.get(..100).map(until_zero);
    matches!(
        name,
        Some(b"sys_info" | b"pickle" | b"tensors" | b"storages")
    ) && prefix.len() >= 156
        && octal(&prefix[124..136]).is_some()
}

/// Finds the members of a tar archive and reads its tables of storages and tensors.
pub(crate) fn open(
    storage: &dyn Storage,
    policy: Policy,
    limits: &Limits,
    budget: &mut DescriptionBudget,
) -> Result<Tar> {
    let members = members(storage)?;
    let member = |name: &'static str| {
        let found = members.iter().find(|(found, _)| found == name.as_bytes());
        found
            .map(|(_, extent)| *extent)
            .ok_or(Error::Layout(LayoutProblem::NoMember { name }))
    };
    let (storages, tensors) = (member("storages")?, member("tensors")?);
    let mut reader = TableReader {
        storage,
        limits,
        policy,
        extent: storages,
        position: storages.offset,
        window: Vec::new(),
        pickle: "the table of storages",
    };
    let mut objects = TarObjects::default();
    reader.storages(&mut objects, budget)?;
    reader.pickle = "the table of tensors";
    (reader.extent, reader.position) = (tensors, tensors.offset);
    reader.tensors(&mut objects, budget)?;
    Ok(Tar {
        pickle: member("pickle")?,
        objects,
    })
}

/// The files of the archive, in their order.
pub(super) fn members(storage: &dyn Storage) -> Result<Vec<(Vec<u8>, Extent)>> {
    let mut members = Vec::new();
    let mut position = 0u64;
    while members.len() < MAX_MEMBERS && position.saturating_add(BLOCK) <= storage.len() {
        let mut header = [0; BLOCK as usize];
        storage
            .read_exact_at(position, &mut header)
            .map_err(|source| Error::io("a header of the tar archive", source))?;
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        let name = until_zero(&header[..100]);
        let name = name.strip_prefix(b"./").unwrap_or(name).to_vec();
        let size = octal(&header[124..136])
            .ok_or(Error::Layout(LayoutProblem::NoHeader { offset: position }))?;
        let data = position + BLOCK;
        let end = data.checked_add(size).filter(|&end| end <= storage.len());
        let end = end.ok_or(Error::CutShort { len: storage.len() })?;
        // Type 0 is a file; others describe folders or the next header.
        if matches!(header[156], 0 | b'0') {
            if members.iter().any(|(other, _)| *other == name) {
                let name = name.escape_ascii().to_string();
                return Err(Error::Layout(LayoutProblem::TwoMembers { name }));
            }
            members.push((name, Extent::new(ShardId::FIRST, data, size)));
        }
        position = end.div_ceil(BLOCK).saturating_mul(BLOCK);
    }
    Ok(members)
}

/// Reads a member in which pickles and raw data take turns.
struct TableReader<'a> {
    storage: &'a dyn Storage,
    limits: &'a Limits,
    policy: Policy,
    extent: Extent,
    position: u64,
    window: Vec<u8>,
    pickle: &'static str,
}

impl TableReader<'_> {
    fn storages(&mut self, objects: &mut TarObjects, budget: &mut DescriptionBudget) -> Result<()> {
        let count = self.count(budget)?;
        for _ in 0..count {
            // Each item takes bytes of the file, which bounds the loop.
            let (arena, root) = self.pickle(budget)?;
            let fields = arena.tuple_items(root).or_else(|| arena.items(root));
            let (key, kind) = match fields {
                Some(&[key, _location, kind]) => (self.number(&arena, key)?, arena.known(kind)),
                _ => return Err(self.wrong("a key, location and type")),
            };
            let Known::Storage(kind @ StorageType::Typed(_)) = kind else {
                return Err(self.wrong("a storage type"));
            };
            let elements = u64::from_le_bytes(self.raw()?);
            let len = elements
                .checked_mul(kind.element_bytes())
                .filter(|&len| len <= self.extent.end().saturating_sub(self.position))
                .ok_or(Error::CutShort {
                    len: self.storage.len(),
                })?;
            let extent = Extent::new(ShardId::FIRST, self.position, len);
            self.position += len;
            let storage = TarStorage {
                kind,
                root: key,
                extent,
                base: 0,
                len,
            };
            if objects.storages.insert(key, storage).is_some() {
                return Err(self.wrong("each storage once"));
            }
        }
        let (arena, root) = self.pickle(budget)?;
        let views = arena
            .items(root)
            .ok_or_else(|| self.wrong("a list of views"))?;
        for &view in views {
            let Some(&[target, root, offset, len]) = arena.items(view) else {
                return Err(self.wrong("a view of a storage"));
            };
            let (target, root) = (self.number(&arena, target)?, self.number(&arena, root)?);
            let whole = *objects
                .storages
                .get(&root)
                .ok_or_else(|| self.wrong("the storage of a view"))?;
            let bytes = |id| {
                let count = arena
                    .as_int(id)
                    .and_then(|count| u64::try_from(count).ok())?;
                count.checked_mul(whole.kind.element_bytes())
            };
            let part = bytes(offset).zip(bytes(len)).and_then(|(offset, len)| {
                let base = whole.base.checked_add(offset)?;
                (base.checked_add(len)? <= whole.base + whole.len).then_some((base, len))
            });
            let (base, len) = part.ok_or_else(|| self.wrong("a view within its storage"))?;
            let view = TarStorage { base, len, ..whole };
            objects.storages.insert(target, view);
        }
        Ok(())
    }

    fn tensors(&mut self, objects: &mut TarObjects, budget: &mut DescriptionBudget) -> Result<()> {
        let count = self.count(budget)?;
        for _ in 0..count {
            let (arena, root) = self.pickle(budget)?;
            let fields = arena.tuple_items(root).or_else(|| arena.items(root));
            let (key, storage) = match fields {
                Some(&[key, storage, _kind]) => {
                    (self.number(&arena, key)?, self.number(&arena, storage)?)
                }
                _ => return Err(self.wrong("a key, storage and type")),
            };
            let rank = i32::from_le_bytes(self.raw()?);
            // Older files have a count of eight bytes.
            let _: [u8; 4] = self.raw()?;
            let rank = usize::try_from(rank)
                .ok()
                .filter(|&rank| rank <= self.limits.rank)
                .ok_or_else(|| self.wrong("a plausible number of dimensions"))?;
            let shape = self.sizes(rank)?;
            let strides = self.sizes(rank)?;
            let offset = i64::from_le_bytes(self.raw()?);
            let offset = u64::try_from(offset).map_err(|_| self.wrong("an offset"))?;
            budget.charge(256).map_err(Error::budget)?;
            let dense = Dense {
                // The listing replaces it by the object that refers to it.
                storage: None,
                dtype: None,
                offset,
                shape,
                strides: Some(strides),
                requires_grad: false,
                conjugated: false,
                negated: false,
            };
            objects.storage_of.insert(key, storage);
            objects.tensors.insert(key, dense);
        }
        Ok(())
    }

    fn sizes(&mut self, rank: usize) -> Result<Sizes> {
        let mut sizes = Sizes::with_capacity(rank);
        for _ in 0..rank {
            let size = i64::from_le_bytes(self.raw()?);
            sizes.push(usize::try_from(size).map_err(|_| self.wrong("a size"))?);
        }
        Ok(sizes)
    }

    fn count(&mut self, budget: &mut DescriptionBudget) -> Result<u64> {
        let (arena, root) = self.pickle(budget)?;
        arena
            .as_int(root)
            .and_then(|count| u64::try_from(count).ok())
            .ok_or_else(|| self.wrong("a count"))
    }

    fn raw<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let end = self.position + N as u64;
        if end > self.extent.end() {
            return Err(Error::CutShort {
                len: self.storage.len(),
            });
        }
        self.storage
            .read_exact_at(self.position, &mut bytes)
            .map_err(|source| Error::io(self.pickle, source))?;
        self.position = end;
        Ok(bytes)
    }

    /// Runs the pickle at the current position; such pickles are small.
    fn pickle(&mut self, budget: &mut DescriptionBudget) -> Result<(Arena, Id)> {
        let left = self.extent.end().saturating_sub(self.position);
        let mut len = left.min(4096);
        loop {
            self.window.resize(len as usize, 0);
            self.storage
                .read_exact_at(self.position, &mut self.window)
                .map_err(|source| Error::io(self.pickle, source))?;
            // Memory that lasts is charged where it is stored.
            let mut own = budget.clone();
            own.charge(len).map_err(Error::budget)?;
            let ceilings = Ceilings::of(self.limits);
            let mut machine = Machine::new(&self.window, ceilings, self.policy, own);
            match machine.run() {
                Ok(root) => {
                    self.position += machine.position() as u64;
                    return Ok((machine.into_arena(), root));
                }
                Err(error) if error.problem == PickleProblem::Truncated && len < left => {
                    len = left.min(len * 8).min(u64::from(u32::MAX));
                }
                Err(error) => return Err(pickle_error(self.pickle, error)),
            }
        }
    }

    /// A key: an integer, or its digits.
    fn number(&self, arena: &Arena, id: Id) -> Result<i64> {
        let text = || {
            let text = arena.string_bytes(&self.window, id)?;
            std::str::from_utf8(text).ok()?.trim().parse().ok()
        };
        arena
            .as_int(id)
            .or_else(text)
            .ok_or_else(|| self.wrong("a key"))
    }

    fn wrong(&self, expected: &'static str) -> Error {
        Error::Layout(LayoutProblem::Table {
            table: self.pickle,
            expected,
            offset: self.position,
        })
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(field)
}

/// A number field: octal digits, or big-endian bytes after a set high bit.
fn octal(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let fits = high[0] == 0x80 && high[1..].iter().all(|&byte| byte == 0);
        return fits.then(|| low.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    }
    let digits = until_zero(field).trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| match digit {
        b'0'..=b'7' => Some(sum * 8 + u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_fields() {
        assert_eq!(octal(b"00000000017\0"), Some(15));
        assert_eq!(octal(b"     17 \0\0\0\0"), Some(15));
        assert_eq!(octal(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(octal(b"00000000018\0"), None);
        assert_eq!(octal(&[0; 12]), None);
        assert_eq!(octal(b"\xff\0\0\0\0\0\0\0\0\0\x01\x02"), None);
    }
}
