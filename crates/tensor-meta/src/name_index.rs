use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable, TryReserveError};

/// Positions by name in a list that holds the names; the names are not held a second time.
///
/// Names come from files, so they are hashed with a random key.
/// Every call takes `name_at`, which returns the name at a position of the list.
///
/// ```
/// use tensorlift_tensor_meta::NameIndex;
///
/// let names = ["a", "b"];
/// let mut index = NameIndex::default();
/// for (position, name) in (0..).zip(names) {
///     assert_eq!(index.insert(name, position, |position| names[position]), None);
/// }
/// assert_eq!(index.find("b", |position| names[position]), Some(1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct NameIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl NameIndex {
    /// The position of a name.
    pub fn find<'n>(&self, name: &str, name_at: impl Fn(usize) -> &'n str) -> Option<usize> {
        let is_it = |&position: &u32| name_at(position as usize) == name;
        let found = self.table.find(self.hasher.hash_one(name), is_it);
        found.map(|&position| position as usize)
    }

    /// Makes room for that many more names.
    ///
    /// # Errors
    /// If the system has no memory for them.
    pub fn try_reserve<'n>(
        &mut self,
        additional: usize,
        name_at: impl Fn(usize) -> &'n str,
    ) -> Result<(), TryReserveError> {
        let hash = |&position: &u32| self.hasher.hash_one(name_at(position as usize));
        self.table.try_reserve(additional, hash)
    }

    /// Adds a name, unless it has a position already, which is then returned.
    pub fn insert<'n>(
        &mut self,
        name: &str,
        position: u32,
        name_at: impl Fn(usize) -> &'n str,
    ) -> Option<usize> {
        let entry = self.table.entry(
            self.hasher.hash_one(name),
            |&other| name_at(other as usize) == name,
            |&other| self.hasher.hash_one(name_at(other as usize)),
        );
        match entry {
            Entry::Occupied(known) => Some(*known.get() as usize),
            Entry::Vacant(vacant) => {
                vacant.insert(position);
                None
            }
        }
    }
}
