//! The machine: one pass over the opcodes, family by family.

mod arguments;
mod calls;
mod containers;
mod stack;
mod values;

use std::collections::HashMap;

use tensorlift_tensor_meta::Limits;

use super::arena::Arena;
use super::budget::{DescriptionBudget, OutOfBudget};
use super::limits::Ceilings;
use super::node::Id;
use super::opcode as op;
use super::policy::Policy;
use super::problem::{PickleError, PickleProblem};

type Step<T> = Result<T, PickleProblem>;

/// Runs pickles that follow each other in some bytes.
///
/// Each run begins with an empty stack and memo; the objects of all of them stay in one arena, as
/// for the five pickles of a legacy file.
pub(crate) struct Machine<'a> {
    pickle: &'a [u8],
    position: usize,
    ceilings: Ceilings,
    policy: Policy,
    arena: Arena,
    opcodes: u64,
    stack: Vec<Id>,
    /// The length of the stack at each mark.
    marks: Vec<u32>,
    memo: Vec<Id>,
    /// Memo numbers far beyond the others.
    far_memo: HashMap<u64, Id>,
    memorised: usize,
}

impl<'a> Machine<'a> {
    /// A machine that begins at the first byte of `pickle`.
    pub(crate) fn new(
        pickle: &'a [u8],
        ceilings: Ceilings,
        policy: Policy,
        budget: DescriptionBudget,
    ) -> Self {
        Self {
            pickle,
            position: 0,
            ceilings,
            policy,
            arena: Arena::new(pickle.len() as u32, budget),
            opcodes: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            far_memo: HashMap::new(),
            memorised: 0,
        }
    }

    /// The objects so far.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Makes room for about what a state dict needs.
    pub(crate) fn expect_tensors(&mut self) -> Result<(), OutOfBudget> {
        self.arena.expect_tensors()
    }

    /// The objects, with what is left of the budget.
    pub(crate) fn into_arena(self) -> Arena {
        self.arena
    }

    /// The first byte past the last pickle that ran.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Runs the next pickle to its STOP opcode and returns the object on top.
    ///
    /// The memory of stack and memo is released; the objects stay charged.
    pub(crate) fn run(&mut self) -> Result<Id, PickleError> {
        let result = loop {
            let offset = self.position;
            match self.step() {
                Ok(None) => {}
                Ok(Some(root)) => break Ok(root),
                Err(problem) => break Err(PickleError { offset, problem }),
            }
        };
        let slots = self.stack.capacity() + self.marks.capacity() + self.memo.capacity();
        self.arena.budget_mut().refund(slots as u64 * 4);
        (self.stack, self.marks, self.memo) = (Vec::new(), Vec::new(), Vec::new());
        self.far_memo.clear();
        (self.memorised, self.opcodes) = (0, 0);
        result
    }

    /// Runs one opcode; returns the object on top after the last one.
    ///
    /// It and the families are inlined into one loop: a call costs as much as most opcodes.
    #[inline(always)]
    fn step(&mut self) -> Step<Option<Id>> {
        let opcode = self.byte()?;
        self.opcodes += 1;
        if self.opcodes > self.ceilings.opcodes {
            return Err(limit("pickle opcodes", self.ceilings.opcodes, self.opcodes));
        }
        if self.arena.len() > self.ceilings.objects {
            let (limit_at, found) = (self.ceilings.objects as u64, self.arena.len() as u64);
            return Err(limit("pickle objects", limit_at, found));
        }
        if opcode == op::STOP {
            let start = self.top(1, opcode)?;
            return Ok(Some(self.stack[start]));
        }
        // Each family passes on opcodes that it does not know; the last one rejects them.
        self.stack_opcode(opcode)?;
        Ok(None)
    }

    /// Opcodes that exist but cannot be run, and bytes that are not opcodes.
    fn no_opcode(&mut self, opcode: u8) -> Step<()> {
        Err(match opcode {
            op::EXT1 | op::EXT2 | op::EXT4 | op::NEXT_BUFFER | op::READONLY_BUFFER => {
                PickleProblem::Outside(op::name(opcode))
            }
            _ => PickleProblem::UnknownOpcode(opcode),
        })
    }
}

/// Whether bytes are a pickle, or the beginning of one.
pub(crate) fn plausible(prefix: &[u8]) -> bool {
    let limits = Limits::default();
    let budget = DescriptionBudget::for_file(prefix.len() as u64, limits.description_bytes);
    let mut machine = Machine::new(prefix, Ceilings::of(&limits), Policy::Inert, budget);
    loop {
        match machine.step() {
            Ok(None) => {}
            Ok(Some(_)) => return true,
            // A few bytes that happen to be opcodes prove nothing; a protocol mark does.
            Err(problem) => {
                return problem == PickleProblem::Truncated
                    && (machine.opcodes > 2 || prefix.starts_with(b"\x80"));
            }
        }
    }
}

fn limit(what: &'static str, limit: u64, found: u64) -> PickleProblem {
    PickleProblem::Limit { what, limit, found }
}

fn literal(expected: &'static str, line: &[u8]) -> PickleProblem {
    let found = line[..line.len().min(40)].escape_ascii().to_string();
    PickleProblem::Literal { expected, found }
}

fn target(opcode: u8, arena: &Arena, id: Id) -> PickleProblem {
    PickleProblem::Target {
        opcode: op::name(opcode),
        found: arena.type_name(id),
    }
}
