//! Opcodes that make tuples, lists, sets and dicts, or put objects into them.

use super::super::node::{Id, Node, Seq};
use super::super::opcode as op;
use super::super::problem::PickleProblem;
use super::{Machine, Step, target};

/// # Containers
impl Machine<'_> {
    #[inline(always)]
    pub(super) fn container_opcode(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            op::EMPTY_TUPLE => self.push(Id::EMPTY_TUPLE),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let count = usize::from(opcode - op::TUPLE1) + 1;
                let start = self.top(count, opcode)?;
                self.tuple_from(start)
            }
            op::TUPLE => {
                let start = self.mark(opcode)?;
                self.tuple_from(start)
            }
            op::EMPTY_DICT => self.push_new(Node::Dict(Seq::EMPTY)),
            op::EMPTY_LIST => self.push_new(Node::List(Seq::EMPTY)),
            op::EMPTY_SET => self.push_new(Node::Set(Seq::EMPTY)),
            op::DICT => {
                let start = self.mark(opcode)?;
                if !(self.stack.len() - start).is_multiple_of(2) {
                    return Err(PickleProblem::OddPairs(op::name(opcode)));
                }
                self.run_from(start, Node::Dict)
            }
            op::LIST => {
                let start = self.mark(opcode)?;
                self.run_from(start, Node::List)
            }
            op::FROZENSET => {
                let start = self.mark(opcode)?;
                self.run_from(start, Node::Set)
            }
            op::SETITEM => {
                let start = self.top(3, opcode)? + 1;
                self.put(start, opcode)
            }
            op::APPEND => {
                let start = self.top(2, opcode)? + 1;
                self.put(start, opcode)
            }
            op::SETITEMS | op::APPENDS | op::ADDITEMS => {
                let start = self.mark(opcode)?;
                self.put(start, opcode)
            }
            _ => self.call_opcode(opcode),
        }
    }

    fn tuple_from(&mut self, start: usize) -> Step<()> {
        let id = self.arena.tuple(&self.stack[start..])?;
        self.replace_from(start, id)
    }

    fn run_from(&mut self, start: usize, node: fn(Seq) -> Node) -> Step<()> {
        let seq = self.arena.extend(Seq::EMPTY, &self.stack[start..])?;
        let id = self.arena.push(node(seq))?;
        self.replace_from(start, id)
    }

    /// Puts all objects from `start` on into the container below them.
    fn put(&mut self, start: usize, opcode: u8) -> Step<()> {
        let floor = self.marks.last().map_or(0, |&mark| mark as usize);
        let below = start
            .checked_sub(1)
            .filter(|&below| below >= floor)
            .ok_or_else(|| PickleProblem::Underflow(op::name(opcode)))?;
        let (container, members) = (self.stack[below], &self.stack[start..]);
        let are_pairs = matches!(opcode, op::SETITEM | op::SETITEMS);
        if are_pairs && !members.len().is_multiple_of(2) {
            return Err(PickleProblem::OddPairs(op::name(opcode)));
        }
        let arena = &mut self.arena;
        match (arena.node(container), opcode) {
            (Node::Dict(seq), op::SETITEM | op::SETITEMS) => {
                let seq = arena.extend(seq, members)?;
                arena.set_node(container, Node::Dict(seq));
            }
            (Node::List(seq), op::APPEND | op::APPENDS) => {
                let seq = arena.extend(seq, members)?;
                arena.set_node(container, Node::List(seq));
            }
            (Node::Set(seq), op::ADDITEMS) => {
                let seq = arena.extend(seq, members)?;
                arena.set_node(container, Node::Set(seq));
            }
            (Node::Object(number), _)
                if arena.known(arena.object_at(number).class).takes_items() =>
            {
                let object = *arena.object_at(number);
                if are_pairs {
                    arena.object_mut(number).dict = arena.extend(object.dict, members)?;
                } else {
                    arena.object_mut(number).list = arena.extend(object.list, members)?;
                }
            }
            _ => return Err(target(opcode, arena, container)),
        }
        self.stack.truncate(start);
        Ok(())
    }
}
