//! The machine's stack, marks and memo.

use super::super::PickleProblem;
use super::super::limits::Budget;
use super::super::opcode as op;
use super::super::value::Id;
use super::{MEMO_GAP, Machine, Step, limit, literal};

/// # Stack and memo
impl Machine<'_> {
    #[inline]
    pub(super) fn push(&mut self, id: Id, budget: &mut Budget) -> Step<()> {
        budget.reserve(&mut self.stack, 1)?;
        self.stack.push(id);
        Ok(())
    }

    /// Puts one object in the place of all from `start` on.
    #[inline]
    pub(super) fn replace_from(&mut self, start: usize, id: Id, budget: &mut Budget) -> Step<()> {
        self.stack.truncate(start);
        self.push(id, budget)
    }

    /// Where the `count` topmost objects begin; they must lie above the last mark.
    #[inline]
    pub(super) fn top(&self, count: usize, opcode: u8) -> Step<usize> {
        let floor = self.marks.last().map_or(0, |&mark| mark as usize);
        self.stack
            .len()
            .checked_sub(count)
            .filter(|&start| start >= floor)
            .ok_or(PickleProblem::Underflow(op::name(opcode)))
    }

    /// Takes the last mark and gives the first position above it.
    #[inline]
    pub(super) fn mark(&mut self, opcode: u8) -> Step<usize> {
        self.marks
            .pop()
            .map(|mark| mark as usize)
            .ok_or(PickleProblem::NoMark(op::name(opcode)))
    }

    pub(super) fn memorise(&mut self, number: u64, budget: &mut Budget) -> Step<()> {
        let start = self.top(1, op::PUT)?;
        let id = self.stack[start];
        let near = usize::try_from(number)
            .ok()
            .filter(|&number| number < self.memo.len() + MEMO_GAP);
        let is_new = match near {
            Some(number) => {
                if number >= self.memo.len() {
                    let more = number + 1 - self.memo.len();
                    budget.reserve(&mut self.memo, more)?;
                    self.memo.resize(number + 1, Id::NOWHERE);
                }
                std::mem::replace(&mut self.memo[number], id) == Id::NOWHERE
            }
            None => {
                budget.charge(64)?;
                self.far_memo.insert(number, id).is_none()
            }
        };
        self.memorised += usize::from(is_new);
        if self.memorised > self.ceilings.memo {
            return Err(limit(
                "pickle memo",
                self.ceilings.memo as u64,
                self.memorised as u64,
            ));
        }
        Ok(())
    }

    pub(super) fn recall(&mut self, number: u64, budget: &mut Budget) -> Step<()> {
        let near = usize::try_from(number)
            .ok()
            .and_then(|number| self.memo.get(number).copied())
            .filter(|&id| id != Id::NOWHERE);
        let id = near
            .or_else(|| self.far_memo.get(&number).copied())
            .ok_or(PickleProblem::Memo(number))?;
        self.push(id, budget)
    }

    pub(super) fn memo_number(&mut self) -> Step<u64> {
        let line = self.line()?;
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| literal("a memo number", line))
    }
}
