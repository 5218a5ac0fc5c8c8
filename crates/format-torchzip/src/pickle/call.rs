//! What calls leave behind: containers for the few classes that are containers, an inert note
//! for every other.

use crate::pickle::globals::Known;

use super::PickleProblem;
use super::limits::Budget;
use super::value::{Arena, Id, Node, Seq};

type Made<T> = Result<T, PickleProblem>;

/// The result of calling `callable` with the tuple `args`.
pub(super) fn reduce(arena: &mut Arena, callable: Id, args: Id, budget: &mut Budget) -> Made<Id> {
    match (arena.known(callable), arena.tuple_items(args)) {
        (Known::Annotate, Some([value, ..])) => Ok(*value),
        // copyreg.__newobj__(cls, *args) is NEWOBJ in the clothes of a call.
        (Known::NewObj, Some([class, rest @ ..])) => {
            let (class, rest) = (*class, rest.to_vec());
            let args = arena.tuple(&rest, budget)?;
            new_object(arena, class, args, budget)
        }
        (Known::NewObjEx, Some([class, args, kwargs])) => {
            let (class, args, kwargs) = (*class, *args, *kwargs);
            let id = new_object(arena, class, args, budget)?;
            keyword_arguments(arena, id, kwargs, budget)?;
            Ok(id)
        }
        // copyreg._reconstructor(cls, base, value): of classes that pickle as protocol 0 did.
        (Known::Reconstructor, Some([class, base, value])) => {
            let (class, base, value) = (*class, *base, *value);
            let args = match arena.node(value) {
                Node::None => Id::EMPTY_TUPLE,
                _ => arena.tuple(&[value], budget)?,
            };
            match arena.known(base) {
                Known::Dict if arena.known(class) == Known::Unknown => {
                    let id = arena.object(class, Id::EMPTY_TUPLE, budget)?;
                    keyword_arguments(arena, id, value, budget)?;
                    Ok(id)
                }
                _ => new_object(arena, class, args, budget),
            }
        }
        _ => new_object(arena, callable, args, budget),
    }
}

/// An object of `class`, made with the tuple `args`.
pub(super) fn new_object(arena: &mut Arena, class: Id, args: Id, budget: &mut Budget) -> Made<Id> {
    if arena.tuple_items(args).is_none() {
        return Err(PickleProblem::Target {
            opcode: "REDUCE",
            found: format!("{} in place of an argument tuple", arena.type_name(args)),
        });
    }
    let known = arena.known(class);
    let first = arena
        .tuple_items(args)
        .and_then(|args| args.first().copied());
    let made = match known {
        Known::Dict | Known::OrderedDict | Known::Counter => dict(arena, first, budget)?,
        Known::DefaultDict => {
            let second = arena
                .tuple_items(args)
                .and_then(|args| args.get(1).copied());
            dict(arena, second, budget)?
        }
        Known::List | Known::Set => items(arena, first, known, budget)?,
        Known::Tuple => match first {
            None => Some(Id::EMPTY_TUPLE),
            Some(first) => match arena.items(first).map(<[Id]>::to_vec) {
                Some(items) => Some(arena.tuple(&items, budget)?),
                None => None,
            },
        },
        _ => None,
    };
    match made {
        Some(id) => Ok(id),
        None => Ok(arena.object(class, args, budget)?),
    }
}

/// Gives an object's constructor its keyword arguments: they are kept like items of a dict.
pub(super) fn keyword_arguments(
    arena: &mut Arena,
    id: Id,
    kwargs: Id,
    budget: &mut Budget,
) -> Made<()> {
    let Some(pairs) = arena.pairs(kwargs).map(<[Id]>::to_vec) else {
        return match arena.node(kwargs) {
            Node::None => Ok(()),
            _ => Err(PickleProblem::Target {
                opcode: "NEWOBJ_EX",
                found: format!("{} in place of keyword arguments", arena.type_name(kwargs)),
            }),
        };
    };
    match arena.node(id) {
        Node::Object(number) => {
            let seq = arena.object_at(number).dict;
            arena.object_mut(number).dict = arena.extend(seq, &pairs, budget)?;
        }
        Node::Dict(seq) => {
            let seq = arena.extend(seq, &pairs, budget)?;
            arena.set_node(id, Node::Dict(seq));
        }
        _ => {}
    }
    Ok(())
}

/// Gives `target` its state.
pub(super) fn build(arena: &mut Arena, target: Id, state: Id, budget: &mut Budget) -> Made<()> {
    match arena.node(target) {
        Node::Object(number) => {
            let state = match arena.object_at(number).state {
                Some(before) => arena.tuple(&[before, state], budget)?,
                None => state,
            };
            arena.object_mut(number).state = Some(state);
        }
        Node::Dict(_) | Node::List(_) | Node::Set(_) | Node::Persistent(_) | Node::Global(_) => {
            arena.attach(target, state, budget)?;
        }
        _ => {
            return Err(PickleProblem::Target {
                opcode: "BUILD",
                found: arena.type_name(target),
            });
        }
    }
    Ok(())
}

/// Does what a dropped call did: `setter(target, state)`, as the sixth item of `__reduce__` asks.
pub(super) fn set_state(arena: &mut Arena, dropped: Id, budget: &mut Budget) -> Made<()> {
    let Some((object, Known::Unknown)) = arena.as_object(dropped) else {
        return Ok(());
    };
    match arena.tuple_items(object.args) {
        Some(&[target, state]) if matches!(arena.node(target), Node::Object(_)) => {
            build(arena, target, state, budget)
        }
        _ => Ok(()),
    }
}

/// A dict of the pairs in `from`: a dict, or a list of pairs as Python 2 wrote ordered dicts.
fn dict(arena: &mut Arena, from: Option<Id>, budget: &mut Budget) -> Made<Option<Id>> {
    let mut flat = Vec::new();
    if let Some(from) = from {
        if let Some(pairs) = arena.pairs(from) {
            flat.extend_from_slice(pairs);
        } else if let Some(items) = arena.items(from) {
            for &item in items {
                match arena.items(item) {
                    Some([key, value]) => flat.extend([*key, *value]),
                    _ => return Ok(None),
                }
            }
        } else if arena.node(from) != Node::None {
            return Ok(None);
        }
    }
    let seq = arena.extend(Seq::EMPTY, &flat, budget)?;
    Ok(Some(arena.push(Node::Dict(seq), budget)?))
}

fn items(
    arena: &mut Arena,
    from: Option<Id>,
    known: Known,
    budget: &mut Budget,
) -> Made<Option<Id>> {
    let ids = match from.map(|from| arena.items(from)) {
        None => Vec::new(),
        Some(Some(ids)) => ids.to_vec(),
        Some(None) => return Ok(None),
    };
    let seq = arena.extend(Seq::EMPTY, &ids, budget)?;
    let node = match known {
        Known::List => Node::List(seq),
        _ => Node::Set(seq),
    };
    Ok(Some(arena.push(node, budget)?))
}
