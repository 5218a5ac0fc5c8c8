//! Names of one tensor: tied weights.

use hashbrown::HashMap;
use tensorlift_tensor_meta::{Catalog, Entry};

/// Entries that are one tensor under several names, by their positions in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tie {
    /// The entry whose name a format without aliases keeps.
    pub kept: usize,
    /// The others, in file order.
    pub aliases: Vec<usize>,
}

/// The tied entries of a catalog of any format: those that show the same bytes of the same record
/// as the same elements. Ties are in the order of their first entries.
///
/// Kept is the first name in file order that a state dict would have: a name through a private
/// list, such as `rnn._flat_weights.0`, comes after `rnn.weight_ih_l0`.
#[must_use]
pub fn ties(catalog: &Catalog) -> Vec<Tie> {
    let entries = catalog.entries();
    let mut ties: Vec<Tie> = Vec::new();
    for positions in catalog.shared() {
        let mut by_view: HashMap<_, usize> = HashMap::new();
        for position in positions {
            let entry = &entries[position];
            let view = (entry.view(), entry.dtype(), entry.layout().clone());
            match by_view.get(&view) {
                Some(&tie) => ties[tie].add(position, entries),
                None => {
                    by_view.insert(view, ties.len());
                    ties.push(Tie {
                        kept: position,
                        aliases: Vec::new(),
                    });
                }
            }
        }
    }
    ties.retain(|tie| !tie.aliases.is_empty());
    ties.sort_by_key(|tie| tie.kept.min(tie.aliases[0]));
    ties
}

impl Tie {
    /// Adds an entry that comes after all others in the file.
    fn add(&mut self, position: usize, entries: &[Entry]) {
        let is_internal = |position: usize| is_internal(entries[position].name());
        if is_internal(self.kept) && !is_internal(position) {
            let first = std::mem::replace(&mut self.kept, position);
            self.aliases.push(first);
            self.aliases.sort_unstable();
        } else {
            self.aliases.push(position);
        }
    }
}

/// Whether a name leads through a private list, which is in no state dict.
fn is_internal(name: &str) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = || name.split('.');
    parts()
        .zip(parts().skip(1))
        .any(|(part, next)| part.starts_with('_') && is_number(next))
}

#[cfg(test)]
mod tests {
    use tensorlift_tensor_meta::{Dtype, Extent, Layout, Record, ShardId, View};

    use super::*;

    fn tied(names: &[(&str, u64)]) -> Vec<(usize, Vec<usize>)> {
        let mut builder = Catalog::builder();
        let extent = Extent::new(ShardId::FIRST, 0, 64);
        let record = builder.record(Record::stored(extent)).unwrap();
        for &(name, offset) in names {
            let layout = Layout::contiguous([4]).unwrap();
            let view = View::at(record, offset);
            builder.entry(name, Dtype::F32, layout, view).unwrap();
        }
        let ties = ties(&builder.finish()).into_iter();
        ties.map(|tie| (tie.kept, tie.aliases)).collect()
    }

    #[test]
    fn the_first_name_is_kept_unless_it_is_internal() {
        type Case<'a> = (&'a [(&'a str, u64)], &'a [(usize, &'a [usize])]);
        let cases: [Case<'_>; 5] = [
            (
                &[("embed.weight", 0), ("x", 16), ("lm_head.weight", 0)],
                &[(0, &[2])],
            ),
            (
                &[("rnn._flat_weights.0", 0), ("rnn.weight_ih_l0", 0)],
                &[(1, &[0])],
            ),
            (
                &[("_a.0", 0), ("_b.1", 0), ("c", 0), ("d", 0)],
                &[(2, &[0, 1, 3])],
            ),
            (&[("_orig_mod.a", 0), ("b", 0)], &[(0, &[1])]),
            (&[("a", 0), ("b", 16)], &[]),
        ];
        for (names, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|&(kept, aliases)| (kept, aliases.to_vec()))
                .collect();
            assert_eq!(tied(names), expected, "{names:?}");
        }
    }
}
