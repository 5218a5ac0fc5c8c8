//! What a PyTorch file holds, rebuilt as Python objects.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use tensorlift::Entry;
use tensorlift::torch::{CallPart, ObjectId, Part, State};

use crate::error::unsupported;

/// Nesting that is followed; the stack bears it.
const MAX_DEPTH: usize = 256;

/// Rebuilds the objects of a file, each once, so that what is shared in the file is shared here.
///
/// `maker` knows Python's side: `tensor`, `container`, `name` and `call` make what is more than
/// plain data, or refuse it.
pub(crate) struct Rebuild<'a, 'py> {
    state: &'a State,
    /// The first entry of each tensor object.
    entries: HashMap<ObjectId, &'a Entry>,
    tensors: &'a Bound<'py, PyDict>,
    maker: &'a Bound<'py, PyAny>,
    made: HashMap<ObjectId, Bound<'py, PyAny>>,
    depth: usize,
}

type Made<'py> = PyResult<Bound<'py, PyAny>>;

impl<'a, 'py> Rebuild<'a, 'py> {
    pub(crate) fn new(
        state: &'a State,
        tensors: &'a Bound<'py, PyDict>,
        maker: &'a Bound<'py, PyAny>,
    ) -> Self {
        Self {
            state,
            entries: state.tensors().collect(),
            tensors,
            maker,
            made: HashMap::new(),
            depth: 0,
        }
    }

    pub(crate) fn root(&mut self) -> Made<'py> {
        self.object(self.state.root())
    }

    fn object(&mut self, id: ObjectId) -> Made<'py> {
        if let Some(object) = self.made.get(&id) {
            return Ok(object.clone());
        }
        let py = self.maker.py();
        Ok(match self.state.part(id) {
            Part::None => py.None().into_bound(py),
            Part::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Part::Int(value) => PyInt::new(py, value).into_any(),
            Part::BigInt(digits) => py.get_type::<PyInt>().call1((digits,))?,
            Part::Float(value) => PyFloat::new(py, value).into_any(),
            Part::Text(text) => PyString::new(py, text).into_any(),
            Part::Surrogates(bytes) => {
                PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogatepass"))?
            }
            Part::Bytes { bytes, is_text } => match (is_text, std::str::from_utf8(bytes)) {
                (true, Ok(text)) => PyString::new(py, text).into_any(),
                (true, Err(_)) => return Err(unsupported(py, "a text that is no UTF-8")),
                (false, _) => PyBytes::new(py, bytes).into_any(),
            },
            part => {
                if self.depth == MAX_DEPTH {
                    let found = format!("objects nested deeper than {MAX_DEPTH}");
                    return Err(unsupported(py, found));
                }
                self.depth += 1;
                let made = self.nested(id, part);
                self.depth -= 1;
                made?
            }
        })
    }

    fn nested(&mut self, id: ObjectId, part: Part<'_>) -> Made<'py> {
        let py = self.maker.py();
        if let Some(&entry) = self.entries.get(&id) {
            let tensor = self.tensor(id, entry, &part)?;
            return Ok(self.keep(id, tensor));
        }
        match part {
            Part::Tuple(items) => {
                let items = self.objects(&items)?;
                let tuple = PyTuple::new(py, items)?.into_any();
                Ok(self.keep(id, tuple))
            }
            Part::List(items) => {
                let list = PyList::empty(py);
                self.keep(id, list.clone().into_any());
                for item in items {
                    list.append(self.object(item)?)?;
                }
                Ok(list.into_any())
            }
            Part::Dict(pairs) => self.mapping(id, &pairs),
            Part::Set(items) => {
                let items = PyList::new(py, self.objects(&items)?)?;
                let class = self.class_of(id, "builtins.set")?;
                let set = self.maker.call_method1("collection", (class, items))?;
                Ok(self.keep(id, set))
            }
            Part::Global { module, name } => {
                let named = self.maker.call_method1("name", (module, name))?;
                Ok(self.keep(id, named))
            }
            Part::Object(call) => {
                let object = self.call(&call)?;
                Ok(self.keep(id, object))
            }
            Part::Persistent(_) => Err(unsupported(py, "a storage outside of a tensor")),
            _ => Err(unsupported(py, "an object of a kind not known here")),
        }
    }

    fn keep(&mut self, id: ObjectId, object: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        self.made.insert(id, object.clone());
        object
    }

    fn objects(&mut self, ids: &[ObjectId]) -> PyResult<Vec<Bound<'py, PyAny>>> {
        ids.iter().map(|&id| self.object(id)).collect()
    }

    /// A dict, or what `maker` makes of its class; filled after it is known, since it may hold
    /// itself.
    fn mapping(&mut self, id: ObjectId, pairs: &[(ObjectId, ObjectId)]) -> Made<'py> {
        let py = self.maker.py();
        let mapping = match self.state.class_of(id) {
            None => PyDict::new(py).into_any(),
            Some(_) => {
                let class = self.class_of(id, "builtins.dict")?;
                self.maker.call_method1("mapping", (class,))?
            }
        };
        self.keep(id, mapping.clone());
        for &(key, value) in pairs {
            let key = self.object(key)?;
            mapping.set_item(key, self.object(value)?)?;
        }
        if let Some(attributes) = self.state.attributes_of(id) {
            let attributes = self.object(attributes)?;
            self.maker
                .call_method1("attributes", (&mapping, attributes))?;
        }
        Ok(mapping)
    }

    fn tensor(&mut self, id: ObjectId, entry: &Entry, part: &Part<'_>) -> Made<'py> {
        let py = self.maker.py();
        let Part::Object(call) = part else {
            return Err(unsupported(py, "a storage outside of a tensor"));
        };
        let class = self.path(call.class)?;
        let tensor = self.tensors.get_item(entry.name())?;
        let tensor = tensor.ok_or_else(|| unsupported(py, "a tensor without bytes"))?;
        let args = match self.state.part(call.args) {
            Part::Tuple(args) => args,
            _ => Vec::new(),
        };
        // Longer lists of arguments end with lazy bits.
        let is_plain = match class.as_str() {
            "torch._utils._rebuild_tensor_v2" => args.len() <= 6,
            _ => false,
        };
        if is_plain && call.states.is_empty() && !entry.requires_grad() {
            return Ok(tensor);
        }
        // What the call says beside the tensor itself, which comes first.
        let rest = match class.as_str() {
            "torch._utils._rebuild_parameter" => self.objects(args.get(1..2).unwrap_or(&[]))?,
            // The dtype: torch has some that are told as another of their width.
            "torch._utils._rebuild_tensor_v3" => self.objects(args.get(6..7).unwrap_or(&[]))?,
            _ => Vec::new(),
        };
        let states = self.objects(&call.states)?;
        let count = args.len();
        let details = (class, tensor, count, rest, states, entry.requires_grad());
        let made = self.maker.call_method1("tensor", details)?;
        Ok(self.keep(id, made))
    }

    fn call(&mut self, call: &CallPart) -> Made<'py> {
        let class = self.path(call.class)?;
        let args = self.object(call.args)?;
        let states = self.objects(&call.states)?;
        let items = self.objects(&call.items)?;
        let pairs: Vec<_> = call
            .pairs
            .iter()
            .map(|&(key, value)| Ok((self.object(key)?, self.object(value)?)))
            .collect::<PyResult<_>>()?;
        self.maker
            .call_method1("call", (class, args, states, items, pairs))
    }

    /// The dotted name of a container's class.
    fn class_of(&self, id: ObjectId, plain: &str) -> PyResult<String> {
        match self.state.class_of(id) {
            Some((class, _)) => self.path(class),
            None => Ok(plain.to_owned()),
        }
    }

    fn path(&self, class: ObjectId) -> PyResult<String> {
        match self.state.part(class) {
            Part::Global { module, name } => Ok(format!("{module}.{name}")),
            _ => Err(unsupported(self.maker.py(), "a call of what is no name")),
        }
    }
}

/// The devices that the storages of all tensors were on when the file was written.
pub(crate) fn locations(state: &State) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (id, _) in state.tensors() {
        let location = location(state, id).unwrap_or_default();
        if !found.contains(&location) {
            found.push(location);
        }
    }
    found
}

/// Follows the first arguments down to the storage's persistent id, whose fourth item tells.
fn location(state: &State, id: ObjectId) -> Option<String> {
    let mut id = id;
    for _ in 0..8 {
        match state.part(id) {
            Part::Object(call) => match state.part(call.args) {
                Part::Tuple(args) => id = *args.first()?,
                _ => return None,
            },
            Part::Persistent(pid) => match state.part(pid) {
                Part::Tuple(items) => match state.part(*items.get(3)?) {
                    Part::Text(text) => return Some(text.to_owned()),
                    Part::Bytes { bytes, .. } => {
                        return String::from_utf8(bytes.to_vec()).ok();
                    }
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        }
    }
    None
}
