//! What the names of tensors say: what wrapped their model, and what is beside it.

use std::borrow::Cow;

use crate::Entry;

/// Prefixes of data-parallel training and `torch.compile`: `DataParallel` and
/// `DistributedDataParallel`, `torch.compile`, fully sharded training,
/// recomputed activations, Lightning Fabric.
const WRAPPERS: [&str; 5] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// The wrappers that all names begin with, joined with dots; empty where there is none.
///
/// Wrappers nest in any order: `module._orig_mod`, `_orig_mod.module`.
/// It works on the names of any format; names below an inner root are passed without its prefix.
///
/// ```
/// use tensorlift_tensor_meta::names::wrapper_prefix;
///
/// let names = ["module._orig_mod.a.weight", "module._orig_mod.b.weight"];
/// assert_eq!(wrapper_prefix(names.into_iter()), "module._orig_mod");
/// assert_eq!(wrapper_prefix(["module.a", "b"].into_iter()), "");
/// ```
pub fn wrapper_prefix<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut common: Option<Vec<&str>> = None;
    for name in names {
        let wrappers = name.split('.').take_while(|part| WRAPPERS.contains(part));
        match &mut common {
            None => {
                let mut wrappers: Vec<&str> = wrappers.collect();
                // The last part of a name is a tensor's own.
                wrappers.truncate(name.matches('.').count());
                common = Some(wrappers);
            }
            Some(common) => {
                let shared = common.iter().zip(wrappers).take_while(|(a, b)| *a == b);
                let shared = shared.count().min(name.matches('.').count());
                common.truncate(shared);
            }
        }
        if common.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    common.unwrap_or_default().join(".")
}

/// The [`wrapper_prefix`] of a model's tensors, each with the name that counts. Scalars, and what by
/// its name is training state, may stand beside the wrapped model.
///
/// Rule: the model is found beside scalars and training state, and without what wraps it.
pub fn model_wrappers<'n>(named: impl Iterator<Item = (&'n str, &'n Entry)>) -> String {
    let is_of_model = |name: &str, entry: &Entry| {
        let first = name.split('.').next().unwrap_or("");
        let is_beside = entry.layout().elements() <= 1 || is_training_state(name);
        WRAPPERS.contains(&first) || !is_beside
    };
    let named = named.filter(|(name, entry)| is_of_model(name, entry));
    wrapper_prefix(named.map(|(name, _)| name))
}

/// A name without the wrappers within it that no model uses for parts of its own: all of
/// [`wrapper_prefix`] but `module`, which some do.
///
/// `torch.compile` and fully sharded training can wrap single layers:
///
/// ```
/// use tensorlift_tensor_meta::names::without_wrappers;
///
/// assert_eq!(without_wrappers("layers.0._orig_mod.weight"), "layers.0.weight");
/// assert_eq!(without_wrappers("layers.0.module.weight"), "layers.0.module.weight");
/// ```
#[must_use]
pub fn without_wrappers(name: &str) -> Cow<'_, str> {
    let is_wrapper = |part: &str| part.starts_with('_') && WRAPPERS.contains(&part);
    if !name.split('.').any(is_wrapper) {
        return Cow::Borrowed(name);
    }
    let parts: Vec<&str> = name.split('.').filter(|part| !is_wrapper(part)).collect();
    Cow::Owned(parts.join("."))
}

/// The words of a key, in lower case.
fn words(key: &str) -> impl Iterator<Item = String> {
    key.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

/// Whether a key holds a moving average of weights.
///
/// ```
/// use tensorlift_tensor_meta::names::is_average;
///
/// assert!(is_average("model_ema"));
/// assert!(!is_average("schema"));
/// ```
#[must_use]
pub fn is_average(key: &str) -> bool {
    words(key).any(|word| matches!(word.as_str(), "ema" | "swa" | "averaged" | "shadow"))
}

/// Whether a key holds state to resume a training run, not weights.
///
/// ```
/// use tensorlift_tensor_meta::names::is_training_state;
///
/// assert!(is_training_state("optimizer_states"));
/// assert!(is_training_state("epoch"));
/// assert!(!is_training_state("state_dict"));
/// ```
#[must_use]
pub fn is_training_state(key: &str) -> bool {
    let words: Vec<String> = words(key).collect();
    let has = |set: &[&str]| words.iter().any(|word| set.contains(&word.as_str()));
    let begins = |starts: &[&str]| {
        let mut words = words.iter();
        words.any(|word| starts.iter().any(|start| word.starts_with(start)))
    };
    if begins(&[
        "optim", "sched", "rng", "random", "callback", "loop", "hyper", "hparam",
    ]) || has(&["opt", "lr", "scaler", "amp"])
    {
        return true;
    }
    !has(&[
        "model", "net", "network", "module", "weights", "params", "state", "dict",
    ]) && (begins(&[
        "step", "epoch", "iter", "loss", "acc", "metric", "config", "meta", "log",
    ]) || has(&[
        "best",
        "args",
        "cfg",
        "dims",
        "history",
        "criterion",
        "seed",
    ]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_all_names_share_is_found_and_nothing_else(
            wrappers in prop::collection::vec(prop::sample::select(&WRAPPERS[..]), 0..4),
            names in prop::collection::vec("[a-z]{1,3}(\\.[a-z]{1,3}){0,2}", 1..5),
        ) {
            let wrapped = |name: &String| {
                let parts = wrappers.iter().copied().chain([name.as_str()]);
                parts.collect::<Vec<_>>().join(".")
            };
            let names: Vec<String> = names.iter().map(wrapped).collect();
            let prefix = wrapper_prefix(names.iter().map(String::as_str));
            prop_assert_eq!(prefix, wrappers.join("."));
            for name in &names {
                let without = without_wrappers(name);
                prop_assert!(!without.contains("_orig_mod"));
                prop_assert!(without.len() <= name.len());
            }
        }
    }

    #[test]
    fn a_tensor_keeps_a_name() {
        assert_eq!(wrapper_prefix(["module"].into_iter()), "");
        assert_eq!(wrapper_prefix(["module.module"].into_iter()), "module");
        assert_eq!(wrapper_prefix(std::iter::empty()), "");
    }
}
