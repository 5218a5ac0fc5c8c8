use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;
use tensorlift_shard_index::{Conflicts, Error, Index, Merged, merge};
use tensorlift_tensor_meta::{
    Catalog, Dtype, Entry, Error as MetaError, ErrorKind, Extent, Layout, Limits, Record, ShardId,
    View,
};

use crate::{fill, folder, open};

/// A shard with these tensors, one byte each.
fn shard(names: &[&str]) -> Catalog {
    let mut builder = Catalog::builder();
    for (offset, name) in (0..).zip(names) {
        let record = builder
            .record(Record::stored(Extent::new(ShardId::FIRST, offset, 1)))
            .unwrap();
        let layout = Layout::contiguous([1]).unwrap();
        builder
            .entry(*name, Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    builder.finish()
}

/// `a=0` lists tensor `a` in shard 0; shards are named by number and all are mentioned.
fn index(count: usize, listed: &[(&str, usize)]) -> Index {
    let entries = (0..count).map(|n| format!("\"anchor {n}\": \"{n}\""));
    let entries = entries.chain(
        listed
            .iter()
            .map(|(name, shard)| format!("{name:?}: \"{shard}\"")),
    );
    let text = format!(
        "{{\"weight_map\": {{{}}}}}",
        entries.collect::<Vec<_>>().join(", ")
    );
    Index::parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn paths(count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|n| PathBuf::from(format!("m/{n}")))
        .collect()
}

/// Merges shards that hold these tensors beside the one that anchors them in the index.
fn merged(listed: Option<&[(&str, usize)]>, held: &[&[&str]]) -> Result<Merged, Error> {
    let anchors: Vec<_> = (0..held.len()).map(|n| format!("anchor {n}")).collect();
    let shards = held.iter().zip(&anchors).map(|(names, anchor)| {
        let names: Vec<_> = [anchor.as_str()]
            .into_iter()
            .chain(names.iter().copied())
            .collect();
        shard(&names)
    });
    let index = listed.map(|listed| index(held.len(), listed));
    merge(&paths(held.len()), index.as_ref(), shards.collect())
}

fn conflicts(result: Result<Merged, Error>) -> Conflicts {
    match result {
        Err(Error::Conflicts(conflicts)) => *conflicts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn order_is_that_of_the_shards_and_their_files() {
    let listed = [("b", 0), ("d", 1), ("a", 0), ("c", 1)];
    let merged = merged(Some(&listed), &[&["b", "a"], &["d", "c"]]).unwrap();
    let names: Vec<_> = merged.catalog.entries().iter().map(Entry::name).collect();
    assert_eq!(names, ["anchor 0", "b", "a", "anchor 1", "d", "c"]);
    assert_eq!(
        merged.catalog.get("c").unwrap().extent(),
        Extent::new(ShardId(1), 2, 1)
    );
    assert!(merged.unlisted.is_empty());
}

#[test]
fn unlisted_tensors_are_kept_and_reported() {
    let merged = merged(Some(&[("a", 0)]), &[&["a", "x"], &["y"]]).unwrap();
    let unlisted: Vec<_> = merged
        .unlisted
        .iter()
        .map(|tensor| (&*tensor.name, tensor.shard.0))
        .collect();
    assert_eq!(unlisted, [("x", 0), ("y", 1)]);
    assert!(merged.catalog.get("x").is_some() && merged.catalog.get("y").is_some());
}

#[test]
fn the_index_settles_which_copy_counts() {
    let merged = merged(Some(&[("a", 0), ("b", 1)]), &[&["a", "b"], &["b", "a"]]).unwrap();
    let copies: Vec<_> = merged
        .copies
        .iter()
        .map(|tensor| (&*tensor.name, tensor.shard.0))
        .collect();
    assert_eq!(copies, [("b", 0), ("a", 1)]);
    let names: Vec<_> = merged.catalog.entries().iter().map(Entry::name).collect();
    assert_eq!(names, ["anchor 0", "a", "anchor 1", "b"]);
    let b = merged.catalog.get("b").unwrap();
    assert_eq!(b.extent(), Extent::new(ShardId(1), 1, 1));
    assert!(merged.unlisted.is_empty());
}

#[test]
fn all_conflicts_are_named_at_once() {
    let listed = [
        ("gone", 0),
        ("moved", 0),
        ("here", 0),
        ("also gone", 1),
        ("twice", 1),
        ("astray", 2),
    ];
    let held: [&[&str]; 3] = [
        &["here", "stray"],
        &["moved", "twice", "astray"],
        &["twice", "astray", "stray"],
    ];
    let found = conflicts(merged(Some(&listed), &held));
    let missing: Vec<_> = found
        .missing
        .iter()
        .map(|t| (&*t.name, t.listed.0))
        .collect();
    assert_eq!(missing, [("gone", 0), ("also gone", 1)]);
    let misplaced: Vec<_> = found
        .misplaced
        .iter()
        .map(|t| (&*t.name, t.listed.0, t.found.0))
        .collect();
    assert_eq!(misplaced, [("moved", 0, 1)]);
    let repeated: Vec<_> = found
        .repeated
        .iter()
        .map(|t| (&*t.name, &t.shards[..]))
        .collect();
    assert_eq!(repeated, [("stray", &[ShardId(0), ShardId(2)][..])]);
    assert_eq!(
        found.to_string(),
        "2 tensors in no shard: \"gone\" (listed in 0), \"also gone\" (listed in 1); \
         1 tensor in another shard than the index says: \"moved\" (listed in 0, found in 1); \
         1 tensor in several shards: \"stray\" (0, 2)"
    );
}

#[test]
fn without_an_index_repeats_are_still_found() {
    assert!(merged(None, &[&["a"], &["b"]]).unwrap().unlisted.is_empty());
    let found = conflicts(merged(None, &[&["a", "b"], &["b"], &["b", "a"]]));
    assert_eq!(found.repeated.len(), 2);
    assert_eq!(found.repeated[1].shards.len(), 3);
}

#[test]
fn an_equal_count_does_not_hide_a_conflict() {
    // Two tensors are listed and two are held, but not the same ones.
    let found = conflicts(merged(Some(&[("a", 0), ("b", 1)]), &[&["a"], &["a"]]));
    assert_eq!((found.missing.len(), found.repeated.len()), (1, 0));
    let found = conflicts(merged(Some(&[("a", 0), ("b", 1)]), &[&["b"], &["a"]]));
    assert_eq!(found.misplaced.len(), 2);
}

#[test]
fn long_lists_are_cut_in_the_message_only() {
    let names: Vec<_> = (0..1000).map(|n| format!("t{n}")).collect();
    let listed: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let found = conflicts(merged(Some(&listed), &[&[]]));
    assert_eq!(found.missing.len(), 1000);
    assert!(found.to_string().ends_with("and 993 more"), "{found}");
}

#[test]
fn catalogs_must_match_the_shards() {
    let error = merge(&paths(2), None, vec![shard(&["a"])]).unwrap_err();
    assert!(matches!(
        error,
        Error::ShardCount {
            shards: 2,
            catalogs: 1
        }
    ));
    let error = merge(&paths(1), Some(&index(2, &[])), vec![shard(&["a"])]).unwrap_err();
    assert!(matches!(
        error,
        Error::ShardCount {
            shards: 2,
            catalogs: 1
        }
    ));
    assert_eq!(MetaError::from(error).kind(), ErrorKind::Misuse);
    assert!(merge(&[], None, Vec::new()).unwrap().catalog.is_empty());
}

#[test]
fn a_resolved_checkpoint_names_its_index() {
    let there = folder(&["model.safetensors.index.json>a.safetensors,b.safetensors"]);
    fill(there.path(), &["a.safetensors", "b.safetensors"]);
    let resolved = open(there.path()).unwrap();
    let merged = resolved.merge(vec![shard(&["0"]), shard(&["1"])]).unwrap();
    assert_eq!(merged.catalog.len(), 2);
    let error: MetaError = resolved
        .merge(vec![shard(&["0"]), shard(&["x"])])
        .unwrap_err()
        .into();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(
        error.path(),
        Some(&*there.path().join("model.safetensors.index.json"))
    );
    assert_eq!(error.tensor(), Some("1"));
}

proptest! {
    /// The naive twin: sets of shards by name.
    #[test]
    fn merging_agrees_with_sets(
        listed in proptest::collection::btree_map("[a-h]", 0usize..3, 0..8),
        held in proptest::collection::vec(proptest::collection::btree_set("[a-h]", 0..6), 3),
        honest in any::<bool>(),
    ) {
        let mut held: Vec<BTreeSet<String>> = held;
        if honest {
            held = vec![BTreeSet::new(); 3];
            for (name, shard) in &listed {
                held[*shard].insert(name.clone());
            }
        }
        let mut homes: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (shard, names) in (0..).zip(&held) {
            for name in names {
                homes.entry(name).or_default().push(shard);
            }
        }
        let count = |wrong: &dyn Fn(u32, &[u32]) -> bool| {
            let homes = |name: &str| homes.get(name).map_or(&[][..], |homes| homes);
            listed.iter().filter(|(name, shard)| wrong(**shard as u32, homes(name))).count()
        };
        let missing = count(&|_, homes| homes.is_empty());
        let misplaced = count(&|shard, homes| homes.len() == 1 && homes[0] != shard);
        // A copy where the index says makes the others count for nothing.
        let copies: usize = listed
            .iter()
            .filter_map(|(name, shard)| homes.get(name.as_str()).map(|homes| (shard, homes)))
            .filter(|(shard, homes)| homes.contains(&(**shard as u32)))
            .map(|(_, homes)| homes.len() - 1)
            .sum();
        let is_settled = |name: &str, homes: &[u32]| {
            listed.get(name).is_some_and(|shard| homes.contains(&(*shard as u32)))
        };
        let repeated = homes
            .iter()
            .filter(|(name, homes)| homes.len() > 1 && !is_settled(name, homes))
            .count();
        let unlisted = homes.keys().filter(|name| !listed.contains_key(**name)).count();

        let listed: Vec<_> = listed.iter().map(|(name, shard)| (name.as_str(), *shard)).collect();
        let held: Vec<Vec<_>> = held.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
        let held: Vec<_> = held.iter().map(Vec::as_slice).collect();
        match merged(Some(&listed), &held) {
            Ok(merged) => {
                prop_assert_eq!((missing, misplaced, repeated), (0, 0, 0));
                prop_assert_eq!(merged.unlisted.len(), unlisted);
                prop_assert_eq!(merged.copies.len(), copies);
                prop_assert_eq!(merged.catalog.len(), homes.len() + 3);
            }
            Err(Error::Conflicts(found)) => {
                prop_assert_eq!(found.missing.len(), missing);
                prop_assert_eq!(found.misplaced.len(), misplaced);
                prop_assert_eq!(found.repeated.len(), repeated);
                prop_assert!(!honest && missing + misplaced + repeated > 0);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
