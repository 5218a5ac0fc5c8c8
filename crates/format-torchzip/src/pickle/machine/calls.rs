//! Opcodes that name classes and functions, make objects of them, and refer to storages.

use super::super::globals::Known;
use super::super::node::Node;
use super::super::opcode as op;
use super::super::policy::Policy;
use super::super::problem::PickleProblem;
use super::{Machine, Step, target};

/// # Calls
impl Machine<'_> {
    #[inline(always)]
    pub(super) fn call_opcode(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            op::REDUCE => {
                let (start, [callable, args]) = self.topmost(opcode)?;
                let id = self.arena.reduce(callable, args)?;
                self.replace_from(start, id)
            }
            op::BINPERSID => {
                let (start, [pid]) = self.topmost(opcode)?;
                let id = self.arena.push(Node::Persistent(pid))?;
                self.replace_from(start, id)
            }
            op::PERSID => {
                let line = self.line()?;
                let text = self.arena.push(Node::Str8(self.span_of(line)))?;
                self.push_new(Node::Persistent(text))
            }
            op::BUILD => {
                let (start, [object, state]) = self.topmost(opcode)?;
                self.arena.build(object, state)?;
                self.stack.truncate(start + 1);
                Ok(())
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            op::STACK_GLOBAL => self.stack_global(),
            op::NEWOBJ => self.instantiate(opcode),
            op::NEWOBJ_EX => {
                let (start, [class, args, kwargs]) = self.topmost(opcode)?;
                let id = self.arena.new_object(class, args)?;
                self.arena.keyword_arguments(id, kwargs)?;
                self.replace_from(start, id)
            }
            op::INST => {
                let (module, name) = (self.line()?, self.line()?);
                let start = self.mark(opcode)?;
                let args = self.arena.tuple(&self.stack[start..])?;
                self.stack.truncate(start);
                self.global(module, name)?;
                self.push(args)?;
                self.instantiate(opcode)
            }
            op::OBJ => {
                let start = self.mark(opcode)?;
                if start == self.stack.len() {
                    return Err(PickleProblem::Underflow(op::name(opcode)));
                }
                let args = self.arena.tuple(&self.stack[start + 1..])?;
                self.stack.truncate(start + 1);
                self.push(args)?;
                self.instantiate(opcode)
            }
            _ => self.no_opcode(opcode),
        }
    }

    /// Makes an object of the class and the arguments on top.
    fn instantiate(&mut self, opcode: u8) -> Step<()> {
        let (start, [class, args]) = self.topmost(opcode)?;
        let id = self.arena.new_object(class, args)?;
        self.replace_from(start, id)
    }

    /// Names the class or function whose module and name are on top.
    fn stack_global(&mut self) -> Step<()> {
        let opcode = op::STACK_GLOBAL;
        let (start, ids) = self.topmost::<2>(opcode)?;
        let pickle = self.pickle;
        let mut names = [&[][..]; 2];
        for (id, name) in ids.into_iter().zip(&mut names) {
            // The names of this opcode lie in the pickle unless it was written by hand.
            match self.arena.node(id) {
                Node::Text(span) if self.arena.is_raw(span) => {
                    *name = &pickle[span.start as usize..][..span.len as usize];
                }
                _ => return Err(target(opcode, &self.arena, id)),
            }
        }
        self.stack.truncate(start);
        self.global(names[0], names[1])
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Step<()> {
        let module = std::str::from_utf8(module).map_err(|_| PickleProblem::Utf8)?;
        let name = std::str::from_utf8(name).map_err(|_| PickleProblem::Utf8)?;
        let known = Known::of(module, name);
        if known == Known::Unknown && self.policy == Policy::Strict {
            return Err(PickleProblem::Forbidden(format!("{module}.{name}")));
        }
        let id = self.arena.global(module, name, known)?;
        self.push(id)
    }
}
