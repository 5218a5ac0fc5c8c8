//! A small pickle assembler: it turns opcodes into bytes, without objects.

use std::collections::HashMap;

/// Appends opcodes.
///
/// Each method writes what Python's pickler would write for the protocol, or exactly one opcode
/// where its name is that of an opcode. Nothing is checked: broken pickles are welcome.
///
/// ```
/// use tensorlift_fixture_kit::pickle::Writer;
///
/// let mut writer = Writer::new(2);
/// writer.empty_dict().text("epoch").int(3).op(b's');
/// assert_eq!(writer.finish(), b"\x80\x02}X\x05\0\0\0epochK\x03s.");
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    out: Vec<u8>,
    protocol: u8,
    framed: bool,
    memo: HashMap<Vec<u8>, u32>,
    slots: u32,
}

impl Writer {
    /// A pickle of this protocol.
    #[must_use]
    pub fn new(protocol: u8) -> Self {
        Self {
            out: Vec::new(),
            protocol,
            framed: protocol >= 4,
            memo: HashMap::new(),
            slots: 0,
        }
    }

    /// The pickle, with its protocol before it and STOP behind it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'.');
        self.unfinished()
    }

    /// The pickle without STOP.
    #[must_use]
    pub fn unfinished(self) -> Vec<u8> {
        let mut pickle = Vec::new();
        if self.protocol >= 2 {
            pickle.extend_from_slice(&[0x80, self.protocol]);
        }
        if self.framed {
            pickle.push(0x95);
            pickle.extend_from_slice(&(self.out.len() as u64).to_le_bytes());
        }
        pickle.extend_from_slice(&self.out);
        pickle
    }

    /// One opcode without an argument.
    pub fn op(&mut self, opcode: u8) -> &mut Self {
        self.out.push(opcode);
        self
    }

    /// Any bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// `None`.
    pub fn none(&mut self) -> &mut Self {
        self.op(b'N')
    }

    /// `True` or `False`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        match self.protocol {
            0 | 1 => self.raw(if value { b"I01\n" } else { b"I00\n" }),
            _ => self.op(if value { 0x88 } else { 0x89 }),
        }
    }

    /// An integer, in the shortest binary form.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if let Ok(byte) = u8::try_from(value) {
            self.raw(&[b'K', byte])
        } else if let Ok(short) = u16::try_from(value) {
            self.op(b'M').raw(&short.to_le_bytes())
        } else if let Ok(int) = i32::try_from(value) {
            self.op(b'J').raw(&int.to_le_bytes())
        } else {
            self.long(&value.to_le_bytes())
        }
    }

    /// An integer of any length: LONG1 or LONG4 with these little-endian two's complement bytes.
    pub fn long(&mut self, bytes: &[u8]) -> &mut Self {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.raw(&[0x8a, len]),
            Err(_) => self.op(0x8b).raw(&(bytes.len() as u32).to_le_bytes()),
        };
        self.raw(bytes)
    }

    /// A float.
    pub fn float(&mut self, value: f64) -> &mut Self {
        self.op(b'G').raw(&value.to_be_bytes())
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.text_bytes(text.as_bytes())
    }

    /// A string of these bytes, which need not be UTF-8 (Python's lone surrogates are not).
    pub fn text_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if self.protocol >= 4 => self.raw(&[0x8c, len]),
            _ => self.op(b'X').raw(&(bytes.len() as u32).to_le_bytes()),
        };
        self.raw(bytes)
    }

    /// A byte string, as protocols from 3 on write it.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.raw(&[b'C', len]),
            Err(_) => self.op(b'B').raw(&(bytes.len() as u32).to_le_bytes()),
        };
        self.raw(bytes)
    }

    /// A class or function by name: GLOBAL, or STACK_GLOBAL from protocol 4 on.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        match self.protocol {
            0..=3 => self.global_line(module, name),
            _ => self.text(module).text(name).op(0x93),
        }
    }

    /// A class or function by the GLOBAL opcode.
    pub fn global_line(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// MARK.
    pub fn mark(&mut self) -> &mut Self {
        self.op(b'(')
    }

    /// A tuple of the values since the last mark.
    pub fn tuple(&mut self) -> &mut Self {
        self.op(b't')
    }

    /// The empty tuple.
    pub fn empty_tuple(&mut self) -> &mut Self {
        self.op(b')')
    }

    /// A tuple of the topmost one to three values.
    ///
    /// # Panics
    /// For other counts.
    pub fn tuple_of(&mut self, count: usize) -> &mut Self {
        assert!((1..=3).contains(&count), "TUPLE1 to TUPLE3");
        self.op(0x84 + count as u8)
    }

    /// The tuple of these integers.
    pub fn int_tuple(&mut self, values: &[usize]) -> &mut Self {
        match values.len() {
            0 => return self.empty_tuple(),
            1..=3 => {}
            _ => {
                self.mark();
            }
        }
        for &value in values {
            self.int(i64::try_from(value).expect("sizes fit into i64"));
        }
        match values.len() {
            count @ 1..=3 => self.tuple_of(count),
            _ => self.tuple(),
        }
    }

    /// An empty dict.
    pub fn empty_dict(&mut self) -> &mut Self {
        self.op(b'}')
    }

    /// An empty list.
    pub fn empty_list(&mut self) -> &mut Self {
        self.op(b']')
    }

    /// Puts the pairs since the last mark into the dict below it.
    pub fn set_items(&mut self) -> &mut Self {
        self.op(b'u')
    }

    /// Puts the values since the last mark into the list below it.
    pub fn appends(&mut self) -> &mut Self {
        self.op(b'e')
    }

    /// Calls the callable below the top with the tuple on top.
    pub fn reduce(&mut self) -> &mut Self {
        self.op(b'R')
    }

    /// Sets the state on top on the object below it.
    pub fn build(&mut self) -> &mut Self {
        self.op(b'b')
    }

    /// A persistent id, of the value on top.
    pub fn persistent_id(&mut self) -> &mut Self {
        self.op(b'Q')
    }

    /// Keeps the topmost value in slot `slot`.
    pub fn put(&mut self, slot: u32) -> &mut Self {
        match u8::try_from(slot) {
            Ok(slot) => self.raw(&[b'q', slot]),
            Err(_) => self.op(b'r').raw(&slot.to_le_bytes()),
        }
    }

    /// Pushes the value in slot `slot`.
    pub fn get(&mut self, slot: u32) -> &mut Self {
        match u8::try_from(slot) {
            Ok(slot) => self.raw(&[b'h', slot]),
            Err(_) => self.op(b'j').raw(&slot.to_le_bytes()),
        }
    }

    /// Keeps the topmost value in the next free slot, as Python's pickler does, and returns it.
    pub fn memoize(&mut self) -> u32 {
        let slot = self.slots;
        self.slots += 1;
        match self.protocol {
            0..=3 => self.put(slot),
            _ => self.op(0x94),
        };
        slot
    }

    /// Pushes what `write` pushes: memoized the first time, fetched from its slot later.
    pub fn once(&mut self, key: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        if let Some(&slot) = self.memo.get(key.as_bytes()) {
            return self.get(slot);
        }
        write(self);
        let slot = self.memoize();
        self.memo.insert(key.as_bytes().to_vec(), slot);
        self
    }

    /// A string, written once.
    pub fn text_once(&mut self, text: &str) -> &mut Self {
        self.once(&format!("text {text}"), |writer| {
            writer.text(text);
        })
    }

    /// A class or function, written once.
    pub fn global_once(&mut self, module: &str, name: &str) -> &mut Self {
        self.once(&format!("global {module} {name}"), |writer| {
            writer.global(module, name);
        })
    }

    /// Whether a protocol of 4 or more writes its one frame. On by default.
    pub fn framed(&mut self, framed: bool) -> &mut Self {
        self.framed = framed && self.protocol >= 4;
        self
    }
}
