//! The machine's stack, marks and memo, and the opcodes that move objects between them.

use super::super::node::Id;
use super::super::opcode as op;
use super::super::problem::PickleProblem;
use super::{Machine, Step, limit, literal};

/// Gaps in the memo's numbers that are worth empty slots.
const MEMO_GAP: usize = 1024;

/// # Stack and memo
impl Machine<'_> {
    /// Opcodes of the stack and the memo, and the marks of a protocol.
    #[inline(always)]
    pub(super) fn stack_opcode(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            op::BINPUT => {
                let number = self.byte()?;
                self.memorise(number.into())
            }
            op::LONG_BINPUT => {
                let number = self.u32()?;
                self.memorise(number.into())
            }
            op::MEMOIZE => self.memorise(self.memorised as u64),
            op::BINGET => {
                let number = self.byte()?;
                self.recall(number.into())
            }
            op::LONG_BINGET => {
                let number = self.u32()?;
                self.recall(number.into())
            }
            op::MARK => {
                let depth = self.stack.len() as u32;
                self.arena.budget_mut().reserve(&mut self.marks, 1)?;
                self.marks.push(depth);
                Ok(())
            }
            op::PUT => {
                let number = self.memo_number()?;
                self.memorise(number)
            }
            op::GET => {
                let number = self.memo_number()?;
                self.recall(number)
            }
            op::POP => self.pop(),
            op::POP_MARK => {
                let start = self.mark(opcode)?;
                self.stack.truncate(start);
                Ok(())
            }
            op::DUP => {
                let start = self.top(1, opcode)?;
                self.push(self.stack[start])
            }
            op::PROTO => match self.byte()? {
                0..=5 => Ok(()),
                protocol => Err(PickleProblem::Protocol(protocol)),
            },
            op::FRAME => {
                let len = u64::from_le_bytes(self.array()?);
                match len > (self.pickle.len() - self.position) as u64 {
                    true => Err(PickleProblem::Truncated),
                    false => Ok(()),
                }
            }
            _ => self.value_opcode(opcode),
        }
    }

    pub(super) fn push(&mut self, id: Id) -> Step<()> {
        self.arena.budget_mut().reserve(&mut self.stack, 1)?;
        self.stack.push(id);
        Ok(())
    }

    /// Puts one object in the place of all from `start` on.
    pub(super) fn replace_from(&mut self, start: usize, id: Id) -> Step<()> {
        self.stack.truncate(start);
        self.push(id)
    }

    /// Where the `count` topmost objects begin; they must lie above the last mark.
    pub(super) fn top(&self, count: usize, opcode: u8) -> Step<usize> {
        let floor = self.marks.last().map_or(0, |&mark| mark as usize);
        self.stack
            .len()
            .checked_sub(count)
            .filter(|&start| start >= floor)
            .ok_or_else(|| PickleProblem::Underflow(op::name(opcode)))
    }

    /// The `N` topmost objects and where they begin.
    pub(super) fn topmost<const N: usize>(&self, opcode: u8) -> Step<(usize, [Id; N])> {
        let start = self.top(N, opcode)?;
        let ids = self.stack[start..].first_chunk::<N>();
        let ids = *ids.ok_or_else(|| PickleProblem::Underflow(op::name(opcode)))?;
        Ok((start, ids))
    }

    /// Takes the last mark and returns the first position above it.
    pub(super) fn mark(&mut self, opcode: u8) -> Step<usize> {
        self.marks
            .pop()
            .map(|mark| mark as usize)
            .ok_or_else(|| PickleProblem::NoMark(op::name(opcode)))
    }

    /// Drops a mark or the topmost object.
    fn pop(&mut self) -> Step<()> {
        if self.marks.last() == Some(&(self.stack.len() as u32)) {
            self.marks.pop();
            return Ok(());
        }
        let dropped = self.stack.pop();
        let dropped = dropped.ok_or_else(|| PickleProblem::Underflow(op::name(op::POP)))?;
        self.arena.set_state(dropped)
    }

    fn memorise(&mut self, number: u64) -> Step<()> {
        let start = self.top(1, op::PUT)?;
        let id = self.stack[start];
        let near = usize::try_from(number)
            .ok()
            .filter(|&number| number < self.memo.len() + MEMO_GAP);
        let is_new = match near {
            Some(number) => {
                if number >= self.memo.len() {
                    let more = number + 1 - self.memo.len();
                    self.arena.budget_mut().reserve(&mut self.memo, more)?;
                    self.memo.resize(number + 1, Id::NOWHERE);
                }
                std::mem::replace(&mut self.memo[number], id) == Id::NOWHERE
            }
            None => {
                self.arena.budget_mut().charge(64)?;
                self.far_memo.insert(number, id).is_none()
            }
        };
        self.memorised += usize::from(is_new);
        if self.memorised > self.ceilings.memo {
            let (limit_at, found) = (self.ceilings.memo as u64, self.memorised as u64);
            return Err(limit("pickle memo", limit_at, found));
        }
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Step<()> {
        let near = usize::try_from(number)
            .ok()
            .and_then(|number| self.memo.get(number).copied())
            .filter(|&id| id != Id::NOWHERE);
        let id = near
            .or_else(|| self.far_memo.get(&number).copied())
            .ok_or(PickleProblem::Memo(number))?;
        self.push(id)
    }

    fn memo_number(&mut self) -> Step<u64> {
        let line = self.line()?;
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| literal("a memo number", line))
    }
}
