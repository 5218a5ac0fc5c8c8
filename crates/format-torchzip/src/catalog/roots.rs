//! Mappings within a file that a model's own names could begin at.

/// A dict or object that holds tensors, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    prefix: String,
    first: usize,
    tensors: usize,
    form: Form,
}

/// What holds the tensors of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A dict, which may wrap a model.
    Dict,
    /// An object, whose attributes are parts of a model, and no dict around one.
    Object,
    /// A list or tuple, where no model's names begin.
    Sequence,
}

/// Keys under which training programs keep the model, the likelier first.
const USUAL: [&str; 16] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "params_ema",
    "generator",
    "encoder",
    "state",
    "student",
    "teacher",
    "ema",
];

/// What wraps the names of a model that was trained on several devices.
const PARALLEL: &str = "module";

impl Root {
    pub(crate) fn new(prefix: String, first: usize, tensors: usize, form: Form) -> Self {
        Self {
            prefix,
            first,
            tensors,
            form,
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
        self.form != Form::Sequence
    }

    /// The name that a tensor has below this root, or `None` for tensors elsewhere.
    #[must_use]
    pub fn strip<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.prefix.as_str() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('.'),
        }
    }
}

/// Puts roots in file order, outer before inner.
///
/// Sequences stay for [`choose`], which counts what they hold; [`Root::is_mapping`] tells them.
pub(crate) fn sort(roots: &mut [Root]) {
    roots.sort_by(|a, b| (a.first, b.tensors).cmp(&(b.first, a.tensors)));
}

/// The root whose names are likely the model's own: the first mapping with tensors of its own,
/// going down through wrappers, by usual names where there are several ways.
///
/// `roots` are sorted; `names` are those of all entries.
pub(crate) fn choose<'n>(roots: &[Root], names: impl Fn(usize) -> &'n str, entries: usize) -> Root {
    let mut chosen = roots
        .iter()
        .find(|root| root.prefix.is_empty())
        .cloned()
        .unwrap_or_else(|| Root::new(String::new(), 0, entries, Form::Dict));
    while chosen.form == Form::Dict {
        let inside: Vec<&Root> = roots
            .iter()
            .filter(|root| is_child(&chosen.prefix, &root.prefix))
            .collect();
        let covered: usize = inside.iter().map(|root| root.tensors).sum();
        if covered < chosen.tensors || inside.is_empty() {
            break;
        }
        // Lists of optimizers stand beside the model, and are no way down.
        let inside: Vec<&Root> = inside
            .into_iter()
            .filter(|root| root.form != Form::Sequence)
            .collect();
        let last = |root: &&&Root| root.prefix.rsplit('.').next().map(str::to_owned);
        let usual = USUAL.iter().find_map(|usual| {
            inside
                .iter()
                .find(|root| last(root).is_some_and(|last| last == *usual))
        });
        let next = match (usual, inside.as_slice()) {
            (Some(root), _) => (*root).clone(),
            (None, [only]) => (*only).clone(),
            _ => break,
        };
        // Parts of a model are not wrappers of it.
        if usual.is_none() && next.prefix.rsplit('.').next().is_some_and(is_number) {
            break;
        }
        chosen = next;
    }
    let parallel = (chosen.first..chosen.first + chosen.tensors).all(|entry| {
        chosen.strip(names(entry)).is_some_and(|name| {
            name.starts_with(PARALLEL) && name[PARALLEL.len()..].starts_with('.')
        })
    });
    if parallel && chosen.tensors > 0 {
        let prefix = match chosen.prefix.as_str() {
            "" => PARALLEL.to_owned(),
            prefix => format!("{prefix}.{PARALLEL}"),
        };
        chosen.prefix = prefix;
    }
    chosen
}

/// Whether a path is one step below another.
fn is_child(parent: &str, path: &str) -> bool {
    let rest = match parent {
        "" => Some(path),
        parent => path
            .strip_prefix(parent)
            .and_then(|rest| rest.strip_prefix('.')),
    };
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(names: &[&str], roots: &[(&str, usize, usize)]) -> String {
        let mut roots: Vec<Root> = roots
            .iter()
            .map(|&(prefix, first, tensors)| {
                Root::new(prefix.to_owned(), first, tensors, Form::Dict)
            })
            .collect();
        sort(&mut roots);
        choose(&roots, |entry| names[entry], names.len()).prefix
    }

    #[test]
    fn wrappers_are_seen_through() {
        let names = [
            "state_dict.module.a",
            "state_dict.module.b",
            "optimizer.0.x",
        ];
        let roots = [
            ("", 0, 3),
            ("optimizer", 2, 1),
            ("optimizer.0", 2, 1),
            ("state_dict", 0, 2),
        ];
        assert_eq!(choice(&names, &roots), "state_dict.module");
    }

    #[test]
    fn lists_beside_the_model_do_not_hide_it() {
        let root =
            |prefix: &str, first, tensors, form| Root::new(prefix.to_owned(), first, tensors, form);
        let mut roots = [
            root("", 0, 3, Form::Dict),
            root("state_dict", 0, 2, Form::Dict),
            root("optimizer_states", 2, 1, Form::Sequence),
        ];
        sort(&mut roots);
        let names = ["state_dict.a", "state_dict.b", "optimizer_states.0.x"];
        assert_eq!(choose(&roots, |entry| names[entry], 3).prefix, "state_dict");
    }

    #[test]
    fn a_plain_state_dict_is_its_own_root() {
        assert_eq!(choice(&["a.b", "c"], &[("", 0, 2)]), "");
        assert_eq!(
            choice(&["w", "model.x"], &[("", 0, 2), ("model", 1, 1)]),
            ""
        );
        assert_eq!(choice(&["only.x"], &[("", 0, 1), ("only", 0, 1)]), "only");
        assert_eq!(
            choice(&["g.x", "d.x"], &[("", 0, 2), ("g", 0, 1), ("d", 1, 1)]),
            ""
        );
    }

    #[test]
    fn names_below_a_root() {
        let root = Root::new("model".to_owned(), 0, 1, Form::Dict);
        assert_eq!(root.strip("model.a.b"), Some("a.b"));
        assert_eq!(root.strip("models.a"), None);
    }
}
