//! Mappings within a file that a model's own names could begin at.

use tensorlift_tensor_meta::Catalog;
use tensorlift_tensor_meta::names::{is_average, is_training_state, model_wrappers};

/// A dict or object that holds tensors, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    prefix: String,
    first: usize,
    tensors: usize,
    kind: RootKind,
}

/// What holds the tensors of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootKind {
    /// A dict, which may wrap a model.
    Dict,
    /// An object, whose attributes are parts of a model, and no dict around one.
    Object,
    /// A list or tuple, where no model's names begin.
    Sequence,
}

/// The path of the model, and other candidates.
pub(crate) struct ModelRoot {
    pub(crate) root: Root,
    pub(crate) passed_over: Vec<Root>,
}

/// Keys that hold a model's state dict whatever is beside them, the most likely first.
const STATE_DICTS: [&str; 4] = ["state_dict", "model_state_dict", "model_state", "params"];
/// Keys that hold a model unless tensors are beside them, the most likely first.
const MODELS: [&str; 5] = ["model", "module", "net", "network", "weights"];

impl Root {
    pub(crate) fn new(prefix: String, first: usize, tensors: usize, kind: RootKind) -> Self {
        Self {
            prefix,
            first,
            tensors,
            kind,
        }
    }

    /// The path; empty for the file's own root.
    ///
    /// The names of its tensors begin with it and a dot.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The number of tensors below it.
    #[must_use]
    pub const fn tensors(&self) -> usize {
        self.tensors
    }

    /// Whether names can begin here: it is no list.
    pub(crate) fn is_mapping(&self) -> bool {
        self.kind != RootKind::Sequence
    }

    /// The name that a tensor has below this root, or `None` for tensors elsewhere.
    #[must_use]
    pub fn strip<'n>(&self, name: &'n str) -> Option<&'n str> {
        below(&self.prefix, name)
    }

    /// The last key of the path.
    fn key(&self) -> &str {
        self.prefix.rsplit('.').next().unwrap_or("")
    }

    fn entries(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.tensors
    }

    /// Whether it looks like the state of an optimizer of PyTorch.
    fn is_optimizer(&self, catalog: &Catalog) -> bool {
        let mut entries = catalog.entries()[self.entries()].iter();
        entries.all(|entry| {
            let name = below(&self.prefix, entry.name()).unwrap_or("");
            name.starts_with("state.") || name.starts_with("param_groups.")
        })
    }
}

/// The rest of a name below a path; all of it below the empty path.
pub(super) fn below<'n>(prefix: &str, name: &'n str) -> Option<&'n str> {
    match prefix {
        "" => Some(name),
        prefix => name.strip_prefix(prefix)?.strip_prefix('.'),
    }
}

/// Puts roots in file order, outer before inner.
///
/// Sequences stay for [`choose`], which looks at what they hold; [`Root::is_mapping`] excludes
/// them.
pub(crate) fn sort(roots: &mut [Root]) {
    roots.sort_by(|a, b| (a.first, b.tensors).cmp(&(b.first, a.tensors)));
}

/// The root whose names are likely the model's own.
///
/// It starts at the file's root and descends while exactly one child is the model: see
/// [`model_among`]. At the end, wrappers that all names share are passed, except the names of
/// scalars and training state: see [`model_wrappers`]. `roots` are sorted.
pub(crate) fn choose(roots: &[Root], catalog: &Catalog) -> ModelRoot {
    let whole = roots.iter().find(|root| root.prefix.is_empty()).cloned();
    let mut root =
        whole.unwrap_or_else(|| Root::new(String::new(), 0, catalog.len(), RootKind::Dict));
    let mut passed_over = Vec::new();
    // Programs also save a tuple of a state dict, an optimizer's state and numbers.
    let mut may_go_down = root.kind != RootKind::Object;
    while may_go_down {
        let children: Vec<&Root> = roots
            .iter()
            .filter(|child| below(&root.prefix, &child.prefix).is_some_and(is_key))
            .collect();
        let Some(model) = model_among(&root, &children, catalog) else {
            break;
        };
        let others = children.iter().filter(|child| {
            let is_state = is_training_state(child.key()) || child.is_optimizer(catalog);
            child.prefix != model.prefix && child.is_mapping() && !is_state
        });
        passed_over.extend(others.map(|&other| other.clone()));
        root = model.clone();
        may_go_down = root.kind == RootKind::Dict;
    }
    let entries = catalog.entries()[root.entries()].iter();
    let named = entries.filter_map(|entry| Some((below(&root.prefix, entry.name())?, entry)));
    let wrappers = model_wrappers(named.clone());
    if !wrappers.is_empty() {
        let within = named.filter(|(name, _)| below(&wrappers, name).is_some());
        root.tensors = within.count();
        root.prefix = match root.prefix.as_str() {
            "" => wrappers,
            prefix => format!("{prefix}.{wrappers}"),
        };
    }
    ModelRoot { root, passed_over }
}

/// The child of a dict that is the model.
///
/// - A key such as `state_dict` says so, whatever is beside it.
/// - A key such as `model` says so, if no tensors are beside it but scalars and training state.
/// - An only child is the model, if there is nothing beside it but scalars and training state,
///   or averages of its weights; where all are averages, the only one of them.
///
/// Averages (`ema`) are never taken before the weights themselves. In a list or tuple, what looks
/// like an optimizer's state counts as training state.
fn model_among<'r>(parent: &Root, children: &[&'r Root], catalog: &Catalog) -> Option<&'r Root> {
    let named = |names: &[&str]| {
        names.iter().find_map(|name| {
            let is_it = |child: &&&Root| child.is_mapping() && child.key() == *name;
            children.iter().find(is_it).copied()
        })
    };
    if let Some(model) = named(&STATE_DICTS) {
        return Some(model);
    }
    // Children follow each other in the file.
    let is_below_a_child = |entry: usize| {
        let begun = children.partition_point(|child| child.first <= entry);
        children[..begun]
            .last()
            .is_some_and(|child| child.entries().contains(&entry))
    };
    let is_beside = |entry: usize| {
        let entry = &catalog.entries()[entry];
        let key = below(&parent.prefix, entry.name()).unwrap_or("");
        entry.layout().elements() <= 1 || is_training_state(key)
    };
    let mut entries = parent.entries();
    if !entries.all(|entry| is_below_a_child(entry) || is_beside(entry)) {
        return None;
    }
    if let Some(model) = named(&MODELS) {
        return Some(model);
    }
    let is_list = parent.kind == RootKind::Sequence;
    let mut models = children.iter().filter(|child| match is_list {
        true => !child.is_optimizer(catalog),
        false => !is_training_state(child.key()),
    });
    let (averages, weights): (Vec<&Root>, Vec<&Root>) =
        models.by_ref().partition(|child| is_average(child.key()));
    match (weights.as_slice(), averages.as_slice()) {
        // Numbered children of a dict are parts of a model, not wrappers.
        ([only], _) | ([], [only]) if only.is_mapping() && (is_list || !is_number(only.key())) => {
            Some(only)
        }
        _ => None,
    }
}

/// Whether a key is one step of a path.
fn is_key(path: &str) -> bool {
    !path.is_empty() && !path.contains('.')
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use tensorlift_tensor_meta::{Dtype, Extent, Layout, Record, ShardId, View};

    use super::*;

    /// The choice for tensors of these names and sizes; every key before a dot is a dict, and a
    /// key in brackets a list.
    fn choice(tensors: &[(&str, usize)]) -> (String, Vec<String>) {
        let mut builder = Catalog::builder();
        let mut roots: Vec<Root> = Vec::new();
        for (number, &(name, size)) in tensors.iter().enumerate() {
            let path = name.replace(['[', ']'], "");
            let extent = Extent::new(ShardId::FIRST, number as u64 * 4096, 4 * size as u64);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([size]).unwrap();
            let view = View::whole(record);
            builder
                .entry(path.as_str(), Dtype::F32, layout, view)
                .unwrap();
            let dots = name.match_indices('.').map(|(at, _)| at);
            for end in std::iter::once(0).chain(dots) {
                let prefix = name[..end].replace(['[', ']'], "");
                let kind = match name[..end].ends_with(']') {
                    true => RootKind::Sequence,
                    false => RootKind::Dict,
                };
                match roots.iter_mut().find(|root| root.prefix == prefix) {
                    Some(root) => root.tensors += 1,
                    None => roots.push(Root::new(prefix, number, 1, kind)),
                }
            }
        }
        sort(&mut roots);
        let chosen = choose(&roots, &builder.finish());
        let passed_over = chosen.passed_over.into_iter().map(|root| root.prefix);
        (chosen.root.prefix, passed_over.collect())
    }

    #[test]
    fn the_model_stands_beside_scalars_and_training_state() {
        let cases: [(&[(&str, usize)], &str); 19] = [
            (&[("a.b", 4), ("c", 4)], ""),
            (
                &[("state_dict.w", 4), ("best_acc1", 1), ("optimizer.x", 4)],
                "state_dict",
            ),
            (&[("net.w", 4), ("acc", 1)], "net"),
            (&[("model.w", 4), ("rng", 5056), ("step", 1)], "model"),
            (&[("model.w", 4), ("w", 4)], ""),
            (&[("state_dict.w", 4), ("w", 4)], "state_dict"),
            (
                &[("model_state_dict.w", 4), ("loss", 1)],
                "model_state_dict",
            ),
            (
                &[("checkpoint.model.w", 4), ("checkpoint.optimizer.m", 4)],
                "checkpoint.model",
            ),
            (&[("weights.w", 4), ("config.mean", 2)], "weights"),
            (
                &[("state_dict.w", 4), ("[optimizer_states].0.x", 4)],
                "state_dict",
            ),
            (&[("backbone.w", 4), ("head.w", 4)], ""),
            (&[("encoder.w", 4), ("decoder.w", 4)], ""),
            (&[("embed.w", 4), ("[layers].0.w", 4)], ""),
            (&[("only.w", 4)], "only"),
            (&[("step", 1), ("module.a", 4), ("module.b.c", 4)], "module"),
            (&[("module.a", 4), ("b", 4)], ""),
            (&[("module.a", 4), ("best_acc", 2)], "module"),
            (&[("0.w", 4)], ""),
            (
                &[("model.language_model.encoder.w", 4), ("iteration", 1)],
                "model.language_model.encoder",
            ),
        ];
        for (tensors, expected) in cases {
            assert_eq!(choice(tensors).0, expected, "{tensors:?}");
        }
    }

    #[test]
    fn averages_come_after_the_weights_and_are_named() {
        type Case<'a> = (&'a [(&'a str, usize)], &'a str, &'a [&'a str]);
        let cases: [Case<'_>; 4] = [
            (
                &[("state_dict.w", 4), ("state_dict_ema.w", 4)],
                "state_dict",
                &["state_dict_ema"],
            ),
            (
                &[("state_dict_ema.w", 4), ("optimizer.m", 4)],
                "state_dict_ema",
                &[],
            ),
            (
                &[("params_ema.w", 4), ("params.w", 4)],
                "params",
                &["params_ema"],
            ),
            (&[("unet.w", 4), ("unet_ema.w", 4)], "unet", &["unet_ema"]),
        ];
        for (tensors, root, passed_over) in cases {
            let (found, others) = choice(tensors);
            assert_eq!(
                (found.as_str(), others),
                (
                    root,
                    passed_over.iter().map(|&name| name.to_owned()).collect()
                )
            );
        }
    }

    #[test]
    fn wrappers_are_passed_in_any_nesting() {
        for (name, root) in [
            ("model.module.w", "model.module"),
            ("state_dict._orig_mod.w", "state_dict._orig_mod"),
            ("model.module._orig_mod.w", "model.module._orig_mod"),
            ("model._orig_mod.module.w", "model._orig_mod.module"),
        ] {
            // Keys of a state dict are flat: the wrappers are no dicts.
            let mut builder = Catalog::builder();
            let extent = Extent::new(ShardId::FIRST, 0, 16);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([4]).unwrap();
            builder
                .entry(name, Dtype::F32, layout, View::whole(record))
                .unwrap();
            let outer = name.split('.').next().unwrap().to_owned();
            let roots = [
                Root::new(String::new(), 0, 1, RootKind::Dict),
                Root::new(outer, 0, 1, RootKind::Dict),
            ];
            assert_eq!(choose(&roots, &builder.finish()).root.prefix, root);
        }
    }

    #[test]
    fn a_model_is_found_in_a_tuple_beside_an_optimizer() {
        let mut builder = Catalog::builder();
        let names = ["0.a.w", "0.b", "1.state.0.exp_avg", "1.state.0.step"];
        for (number, name) in (0u64..).zip(names) {
            let extent = Extent::new(ShardId::FIRST, number * 16, 16);
            let record = builder.record(Record::stored(extent)).unwrap();
            let layout = Layout::contiguous([4]).unwrap();
            let view = View::whole(record);
            builder.entry(name, Dtype::F32, layout, view).unwrap();
        }
        let catalog = builder.finish();
        let root =
            |prefix: &str, first, tensors, kind| Root::new(prefix.to_owned(), first, tensors, kind);
        for (kind, expected) in [
            (RootKind::Sequence, "0"),
            (RootKind::Dict, ""),
            (RootKind::Object, ""),
        ] {
            let roots = [
                root("", 0, 4, kind),
                root("0", 0, 2, RootKind::Dict),
                root("1", 2, 2, RootKind::Dict),
            ];
            let chosen = choose(&roots, &catalog);
            assert_eq!(chosen.root.prefix, expected, "{kind:?}");
            assert!(chosen.passed_over.is_empty());
        }
    }

    #[test]
    fn names_below_a_root() {
        let root = Root::new("model".to_owned(), 0, 1, RootKind::Dict);
        assert_eq!(root.strip("model.a.b"), Some("a.b"));
        assert_eq!(root.strip("models.a"), None);
    }
}
