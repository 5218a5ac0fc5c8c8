//! Ways to read the same bytes, which must agree.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use tensorlift_format_torchzip::{Error, PickleProblem, Policy, Result, TorchFile};
use tensorlift_storage::wrap::Chopped;
use tensorlift_storage::{MemoryStorage, Storage};
use tensorlift_tensor_meta::Limits;

use crate::{options, read_bounded};

pub(crate) fn agree(storage: &MemoryStorage, plain: &Result<TorchFile>) {
    let chopped = Chopped::new(storage.clone(), 7);
    match (plain, &read_bounded(&chopped, &options())) {
        (Ok(plain), Ok(chopped)) => same(plain, chopped),
        (Err(plain), Err(chopped)) => assert_eq!(plain.to_string(), chopped.to_string()),
        (plain, chopped) => panic!("whole: {plain:?}; in small reads: {chopped:?}"),
    }

    let mut strict = options();
    strict.policy = Policy::Strict;
    match (plain, &read_bounded(storage, &strict)) {
        (Ok(plain), Ok(strict)) => same(plain, strict),
        // The first bytes that nothing claims are refused, and nothing else is.
        (Ok(plain), Err(Error::Unclaimed(first))) => {
            assert_eq!(plain.unclaimed().first(), Some(first));
        }
        (Ok(_), Err(error)) => assert!(is_forbidden(error), "{error:?}"),
        (Err(plain), Ok(strict)) => panic!("inert: {plain:?}; strict: {strict:?}"),
        (Err(_), Err(_)) => {}
    }

    let mut summed = options();
    summed.verify_crc = true;
    match (plain, &read_bounded(storage, &summed)) {
        (Ok(plain), Ok(summed)) => same(plain, summed),
        (Err(plain), Ok(summed)) => panic!("unchecked: {plain:?}; with sums: {summed:?}"),
        (_, Err(_)) => {}
    }

    let mut tight = options();
    tight.limits = tighter(storage);
    match (plain, &read_bounded(storage, &tight)) {
        // Fewer paths may be named then.
        (Ok(plain), Ok(tight)) if tight.aliases_omitted() => {
            assert!(tight.catalog().len() <= plain.catalog().len());
        }
        (Ok(plain), Ok(tight)) => same(plain, tight),
        (Err(plain), Ok(tight_file)) => {
            panic!("{plain:?}; under {:?}: {tight_file:?}", tight.limits);
        }
        (_, Err(_)) => {}
    }
}

fn same(one: &TorchFile, other: &TorchFile) {
    assert_eq!(one.catalog(), other.catalog());
    assert_eq!(one.format(), other.format());
    assert_eq!(one.roots(), other.roots());
    assert_eq!(one.automatic_root(), other.automatic_root());
    assert_eq!(one.aliases_omitted(), other.aliases_omitted());
    assert_eq!(one.unclaimed(), other.unclaimed());
    // By their texts, since no number that is none equals itself.
    let text = |state: &dyn Debug| format!("{state:?}");
    assert_eq!(text(one), text(other));
}

fn is_forbidden(error: &Error) -> bool {
    matches!(
        error,
        Error::Pickle {
            problem: PickleProblem::Forbidden(_),
            ..
        }
    )
}

/// The limits with one of them far lower; which one hangs on the bytes, so that a finding
/// can be repeated.
fn tighter(storage: &MemoryStorage) -> Limits {
    let mut hasher = DefaultHasher::new();
    storage.as_slice().hash(&mut hasher);
    let hash = hasher.finish();
    let low = 1u64 << (hash >> 32 & 15);
    let size = low as usize;
    let mut limits = options().limits;
    match hash % 13 {
        0 => limits.tensors = size,
        1 => limits.rank = size,
        2 => limits.name_bytes = size,
        3 => limits.archive_entries = low,
        4 => limits.pickle_bytes = low,
        5 => limits.pickle_opcodes = low,
        6 => limits.pickle_objects = size,
        7 => limits.pickle_memo = size,
        8 => limits.pickle_depth = size,
        9 => limits.pickle_string_bytes = size,
        10 => limits.pickle_integer_bytes = size,
        11 => limits.expanded_nodes = size,
        _ => limits.inflated_bytes = low,
    }
    limits
}
