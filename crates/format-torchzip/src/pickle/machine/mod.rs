mod arguments;
mod stack;

use crate::pickle::globals::Known;

use super::limits::{Budget, Ceilings};
use super::opcode as op;
use super::text;
use super::value::{Arena, Id, Node, Seq};
use super::{PickleError, PickleProblem, Policy};

/// Gaps in the memo's numbers that are worth empty slots.
const MEMO_GAP: usize = 1024;

type Step<T> = Result<T, PickleProblem>;

/// Runs one pickle over an arena.
///
/// Several machines can run over one arena one after another, as for the five pickles of a
/// legacy file: stack and memo are the machine's, objects are the arena's.
pub(crate) struct Machine<'a> {
    pickle: &'a [u8],
    position: usize,
    ceilings: Ceilings,
    policy: Policy,
    opcodes: u64,
    stack: Vec<Id>,
    marks: Vec<u32>,
    memo: Vec<Id>,
    /// Memo numbers far beyond the others.
    far_memo: std::collections::HashMap<u64, Id>,
    memorised: usize,
}

impl<'a> Machine<'a> {
    /// A machine that begins at `position` of `pickle`.
    pub(crate) fn new(
        pickle: &'a [u8],
        position: usize,
        ceilings: Ceilings,
        policy: Policy,
    ) -> Self {
        Self {
            pickle,
            position,
            ceilings,
            policy,
            opcodes: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::default(),
            far_memo: std::collections::HashMap::new(),
            memorised: 0,
        }
    }

    /// The opcodes executed so far.
    pub(crate) fn opcodes(&self) -> u64 {
        self.opcodes
    }

    /// The first byte past the pickle, once it has run.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Runs to the STOP opcode and gives the object on top.
    ///
    /// What the stack and the memo took is given back to the budget; the objects stay charged.
    pub(crate) fn run(
        &mut self,
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Result<Id, PickleError> {
        let result = loop {
            let offset = self.position;
            match self.step(arena, budget) {
                Ok(None) => {}
                Ok(Some(root)) => break Ok(root),
                Err(problem) => break Err(PickleError { offset, problem }),
            }
        };
        let slots = self.stack.capacity() + self.marks.capacity() + self.memo.capacity();
        budget.refund(slots as u64 * 4);
        result
    }

    fn step(&mut self, arena: &mut Arena, budget: &mut Budget) -> Step<Option<Id>> {
        let opcode = self.byte()?;
        self.opcodes += 1;
        if self.opcodes > self.ceilings.opcodes {
            return Err(limit("pickle opcodes", self.ceilings.opcodes, self.opcodes));
        }
        if arena.len() > self.ceilings.objects {
            return Err(limit(
                "pickle objects",
                self.ceilings.objects as u64,
                arena.len() as u64,
            ));
        }
        match opcode {
            // The opcodes of a state dict come first.
            op::BINPUT => {
                let number = self.byte()?;
                self.memorise(u64::from(number), budget)?;
            }
            op::LONG_BINPUT => {
                let number = self.u32()?;
                self.memorise(u64::from(number), budget)?;
            }
            op::MEMOIZE => self.memorise(self.memorised as u64, budget)?,
            op::BINGET => {
                let number = self.byte()?;
                self.recall(u64::from(number), budget)?;
            }
            op::LONG_BINGET => {
                let number = self.u32()?;
                self.recall(u64::from(number), budget)?;
            }
            op::BININT1 => {
                let value = self.byte()?;
                self.push(Id::small(value), budget)?;
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.int(i64::from(value), arena, budget)?;
            }
            op::BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.int(i64::from(value), arena, budget)?;
            }
            op::MARK => {
                budget.reserve(&mut self.marks, 1)?;
                self.marks.push(self.stack.len() as u32);
            }
            op::TUPLE => {
                let start = self.mark(opcode)?;
                let id = arena.tuple(&self.stack[start..], budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let count = usize::from(opcode - op::TUPLE1) + 1;
                let start = self.top(count, opcode)?;
                let id = arena.tuple(&self.stack[start..], budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::EMPTY_TUPLE => self.push(Id::EMPTY_TUPLE, budget)?,
            op::BINUNICODE => {
                let len = self.u32()?;
                self.text(u64::from(len), arena, budget)?;
            }
            op::SHORT_BINUNICODE => {
                let len = self.byte()?;
                self.text(u64::from(len), arena, budget)?;
            }
            op::BINUNICODE8 => {
                let len = u64::from_le_bytes(self.array()?);
                self.text(len, arena, budget)?;
            }
            op::BINPERSID => {
                let start = self.top(1, opcode)?;
                let id = arena.push(Node::Persistent(self.stack[start]), budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::NEWFALSE => self.push(Id::FALSE, budget)?,
            op::NEWTRUE => self.push(Id::TRUE, budget)?,
            op::NONE => self.push(Id::NONE, budget)?,
            op::REDUCE => {
                let start = self.top(2, opcode)?;
                let id =
                    super::call::reduce(arena, self.stack[start], self.stack[start + 1], budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::EMPTY_DICT => {
                let id = arena.push(Node::Dict(Seq::EMPTY), budget)?;
                self.push(id, budget)?;
            }
            op::EMPTY_LIST => {
                let id = arena.push(Node::List(Seq::EMPTY), budget)?;
                self.push(id, budget)?;
            }
            op::EMPTY_SET => {
                let id = arena.push(Node::Set(Seq::EMPTY), budget)?;
                self.push(id, budget)?;
            }
            op::SETITEM => {
                let start = self.top(3, opcode)? + 1;
                self.put_pairs(start, opcode, arena, budget)?;
            }
            op::SETITEMS => {
                let start = self.mark(opcode)?;
                self.put_pairs(start, opcode, arena, budget)?;
            }
            op::APPEND => {
                let start = self.top(2, opcode)? + 1;
                self.put_items(start, opcode, arena, budget)?;
            }
            op::APPENDS | op::ADDITEMS => {
                let start = self.mark(opcode)?;
                self.put_items(start, opcode, arena, budget)?;
            }
            op::BUILD => {
                let start = self.top(2, opcode)?;
                let (target, state) = (self.stack[start], self.stack[start + 1]);
                super::call::build(arena, target, state, budget)?;
                self.stack.truncate(start + 1);
            }
            op::NEWOBJ => {
                let start = self.top(2, opcode)?;
                let (class, args) = (self.stack[start], self.stack[start + 1]);
                let id = super::call::new_object(arena, class, args, budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::NEWOBJ_EX => {
                let start = self.top(3, opcode)?;
                let [class, args, kwargs] = [0, 1, 2].map(|at| self.stack[start + at]);
                let id = super::call::new_object(arena, class, args, budget)?;
                super::call::keyword_arguments(arena, id, kwargs, budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name, arena, budget)?;
            }
            op::STACK_GLOBAL => {
                let start = self.top(2, opcode)?;
                let mut names = [&[][..]; 2];
                for (at, name) in names.iter_mut().enumerate() {
                    let Node::Text(span) = arena.node(self.stack[start + at]) else {
                        return Err(target(opcode, arena, self.stack[start + at]));
                    };
                    // Texts of this opcode lie in the pickle unless they were written by hand.
                    if !arena.is_raw(span) {
                        return Err(target(opcode, arena, self.stack[start + at]));
                    }
                    *name = &self.pickle[span.start as usize..][..span.len as usize];
                }
                self.stack.truncate(start);
                self.global(names[0], names[1], arena, budget)?;
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.array()?);
                let id = arena.push(Node::Float(value), budget)?;
                self.push(id, budget)?;
            }
            op::LONG1 => {
                let len = self.byte()?;
                self.long(i64::from(len), arena, budget)?;
            }
            op::LONG4 => {
                let len = i32::from_le_bytes(self.array()?);
                self.long(i64::from(len), arena, budget)?;
            }
            op::SHORT_BINBYTES => {
                let len = self.byte()?;
                self.bytes(u64::from(len), Node::Bytes, arena, budget)?;
            }
            op::BINBYTES => {
                let len = self.u32()?;
                self.bytes(u64::from(len), Node::Bytes, arena, budget)?;
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let len = u64::from_le_bytes(self.array()?);
                self.bytes(len, Node::Bytes, arena, budget)?;
            }
            op::SHORT_BINSTRING => {
                let len = self.byte()?;
                self.bytes(u64::from(len), Node::Str8, arena, budget)?;
            }
            op::BINSTRING => {
                let len = i32::from_le_bytes(self.array()?);
                let len = u64::try_from(len).map_err(|_| PickleProblem::Length(len.into()))?;
                self.bytes(len, Node::Str8, arena, budget)?;
            }
            op::PROTO => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(PickleProblem::Protocol(protocol));
                }
            }
            op::FRAME => {
                let len = u64::from_le_bytes(self.array()?);
                if len > (self.pickle.len() - self.position) as u64 {
                    return Err(PickleProblem::Truncated);
                }
            }
            op::STOP => {
                let start = self.top(1, opcode)?;
                return Ok(Some(self.stack[start]));
            }
            _ => self.rare(opcode, arena, budget)?,
        }
        Ok(None)
    }

    /// The opcodes of protocol 0, and others that hardly any file has.
    fn rare(&mut self, opcode: u8, arena: &mut Arena, budget: &mut Budget) -> Step<()> {
        match opcode {
            op::INT => {
                let line = self.line()?;
                match line {
                    b"01" => self.push(Id::TRUE, budget)?,
                    b"00" => self.push(Id::FALSE, budget)?,
                    _ => self.decimal(line, arena, budget)?,
                }
            }
            op::LONG => {
                let line = self.line()?;
                self.decimal(line.strip_suffix(b"L").unwrap_or(line), arena, budget)?;
            }
            op::FLOAT => {
                let line = self.line()?;
                let value: f64 = std::str::from_utf8(line)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| literal("a float", line))?;
                let id = arena.push(Node::Float(value), budget)?;
                self.push(id, budget)?;
            }
            op::STRING => {
                let line = self.line()?;
                let bytes = text::unquote(line).ok_or_else(|| literal("a quoted text", line))?;
                self.kept(&bytes, Node::Str8, arena, budget)?;
            }
            op::UNICODE => {
                let line = self.line()?;
                let text = text::raw_unicode_escape(line)
                    .ok_or_else(|| literal("a text with escapes", line))?;
                self.kept(&text, Node::Text, arena, budget)?;
            }
            op::PERSID => {
                let line = self.line()?;
                let span = self.span_of(line);
                let text = arena.push(Node::Str8(span), budget)?;
                let id = arena.push(Node::Persistent(text), budget)?;
                self.push(id, budget)?;
            }
            op::PUT => {
                let number = self.memo_number()?;
                self.memorise(number, budget)?;
            }
            op::GET => {
                let number = self.memo_number()?;
                self.recall(number, budget)?;
            }
            op::POP => {
                if self.marks.last() == Some(&(self.stack.len() as u32)) {
                    self.marks.pop();
                } else {
                    let Some(dropped) = self.stack.pop() else {
                        return Err(PickleProblem::Underflow(op::name(opcode)));
                    };
                    super::call::set_state(arena, dropped, budget)?;
                }
            }
            op::POP_MARK => {
                let start = self.mark(opcode)?;
                self.stack.truncate(start);
            }
            op::DUP => {
                let start = self.top(1, opcode)?;
                self.push(self.stack[start], budget)?;
            }
            op::DICT => {
                let start = self.mark(opcode)?;
                if !(self.stack.len() - start).is_multiple_of(2) {
                    return Err(PickleProblem::OddPairs(op::name(opcode)));
                }
                let seq = arena.extend(Seq::EMPTY, &self.stack[start..], budget)?;
                let id = arena.push(Node::Dict(seq), budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::LIST | op::FROZENSET => {
                let start = self.mark(opcode)?;
                let seq = arena.extend(Seq::EMPTY, &self.stack[start..], budget)?;
                let node = if opcode == op::LIST {
                    Node::List(seq)
                } else {
                    Node::Set(seq)
                };
                let id = arena.push(node, budget)?;
                self.replace_from(start, id, budget)?;
            }
            op::INST => {
                let (module, name) = (self.line()?, self.line()?);
                let start = self.mark(opcode)?;
                let args = arena.tuple(&self.stack[start..], budget)?;
                self.stack.truncate(start);
                self.global(module, name, arena, budget)?;
                self.push(args, budget)?;
                self.instantiate(arena, budget)?;
            }
            op::OBJ => {
                let start = self.mark(opcode)?;
                if start == self.stack.len() {
                    return Err(PickleProblem::Underflow(op::name(opcode)));
                }
                let args = arena.tuple(&self.stack[start + 1..], budget)?;
                self.stack.truncate(start + 1);
                self.push(args, budget)?;
                self.instantiate(arena, budget)?;
            }
            op::EXT1 | op::EXT2 | op::EXT4 | op::NEXT_BUFFER | op::READONLY_BUFFER => {
                return Err(PickleProblem::Outside(op::name(opcode)));
            }
            _ => return Err(PickleProblem::UnknownOpcode(opcode)),
        }
        Ok(())
    }

    /// Makes an object of the class and the arguments on top.
    fn instantiate(&mut self, arena: &mut Arena, budget: &mut Budget) -> Step<()> {
        let start = self.stack.len() - 2;
        let (class, args) = (self.stack[start], self.stack[start + 1]);
        let id = super::call::new_object(arena, class, args, budget)?;
        self.replace_from(start, id, budget)
    }

    fn global(
        &mut self,
        module: &[u8],
        name: &[u8],
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        let module = std::str::from_utf8(module).map_err(|_| PickleProblem::Utf8)?;
        let name = std::str::from_utf8(name).map_err(|_| PickleProblem::Utf8)?;
        let known = Known::of(module, name);
        if known == Known::Unknown && self.policy == Policy::Strict {
            return Err(PickleProblem::Forbidden(format!("{module}.{name}")));
        }
        let id = arena.global(module, name, known, budget)?;
        self.push(id, budget)
    }

    fn put_pairs(
        &mut self,
        start: usize,
        opcode: u8,
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        let below = start
            .checked_sub(1)
            .filter(|&below| self.marks.last().is_none_or(|&mark| mark as usize <= below))
            .ok_or(PickleProblem::Underflow(op::name(opcode)))?;
        let container = self.stack[below];
        let pairs = &self.stack[start..];
        if !pairs.len().is_multiple_of(2) {
            return Err(PickleProblem::OddPairs(op::name(opcode)));
        }
        match arena.node(container) {
            Node::Dict(seq) => {
                let grown = arena.extend(seq, pairs, budget)?;
                if grown != seq {
                    arena.set_node(container, Node::Dict(grown));
                }
            }
            Node::Object(number) if takes_items(arena, number) => {
                let seq = arena.object_at(number).dict;
                arena.object_mut(number).dict = arena.extend(seq, pairs, budget)?;
            }
            _ => return Err(target(opcode, arena, container)),
        }
        self.stack.truncate(start);
        Ok(())
    }

    fn put_items(
        &mut self,
        start: usize,
        opcode: u8,
        arena: &mut Arena,
        budget: &mut Budget,
    ) -> Step<()> {
        let below = start
            .checked_sub(1)
            .filter(|&below| self.marks.last().is_none_or(|&mark| mark as usize <= below))
            .ok_or(PickleProblem::Underflow(op::name(opcode)))?;
        let container = self.stack[below];
        let items = &self.stack[start..];
        match (arena.node(container), opcode) {
            (Node::List(seq), op::APPEND | op::APPENDS) => {
                let grown = arena.extend(seq, items, budget)?;
                if grown != seq {
                    arena.set_node(container, Node::List(grown));
                }
            }
            (Node::Set(seq), op::ADDITEMS) => {
                let grown = arena.extend(seq, items, budget)?;
                if grown != seq {
                    arena.set_node(container, Node::Set(grown));
                }
            }
            (Node::Object(number), _) if takes_items(arena, number) => {
                let seq = arena.object_at(number).list;
                arena.object_mut(number).list = arena.extend(seq, items, budget)?;
            }
            _ => return Err(target(opcode, arena, container)),
        }
        self.stack.truncate(start);
        Ok(())
    }
}

fn limit(what: &'static str, limit: u64, found: u64) -> PickleProblem {
    PickleProblem::Limit { what, limit, found }
}

fn literal(expected: &'static str, line: &[u8]) -> PickleProblem {
    let found = line[..line.len().min(40)].escape_ascii().to_string();
    PickleProblem::Literal { expected, found }
}

fn takes_items(arena: &Arena, number: u32) -> bool {
    arena.known(arena.object_at(number).class).takes_items()
}

fn target(opcode: u8, arena: &Arena, id: Id) -> PickleProblem {
    PickleProblem::Target {
        opcode: op::name(opcode),
        found: arena.type_name(id),
    }
}
