//! Headers in the form in which nearly every writer leaves them, read several times faster than
//! JSON in general.
//!
//! The form is JSON without escapes and white space, but for the padding at the end, and with a
//! tensor's fields in the order dtype, shape, data_offsets.
//! Whether there are escapes is asked once of the whole header, many bytes at a time, and not of
//! each text, most of which are short.
//! What is not in this form, right or wrong, is left to the JSON parser: this one only ever says
//! "I know what comes next" or "I do not".

/// A tensor as the header describes it.
#[derive(Clone, Copy)]
pub(crate) struct Described<'h, 's> {
    pub(crate) name: &'h str,
    pub(crate) dtype: &'h str,
    pub(crate) shape: &'s [usize],
    pub(crate) data_offsets: (u64, u64),
}

/// What comes next in a header.
pub(crate) enum Item<'h, 's> {
    Tensor(Described<'h, 's>),
    /// A pair of the `__metadata__` map.
    Metadata(&'h str, &'h str),
    End,
}

/// A header that is read item by item.
pub(crate) struct Canonical<'h> {
    header: &'h str,
    at: usize,
    in_metadata: bool,
    has_metadata: bool,
    shape: Vec<usize>,
}

impl<'h> Canonical<'h> {
    /// `None` if the header has escapes, or control characters, which JSON wants escaped.
    pub(crate) fn new(header: &'h str) -> Option<Self> {
        // Without a branch for each byte, so that the compiler takes many at once.
        let is_special = |byte: u8| (byte < b' ') | (byte == b'\\');
        let found = header
            .bytes()
            .fold(false, |found, byte| found | is_special(byte));
        (!found).then(|| Self {
            header,
            at: 0,
            in_metadata: false,
            has_metadata: false,
            shape: Vec::new(),
        })
    }

    /// The next item, or `None` if what follows is not in the form.
    pub(crate) fn next(&mut self) -> Option<Item<'h, '_>> {
        if self.at == 0 {
            self.skip("{")?;
        }
        while self.skip("}").is_some() {
            if !std::mem::replace(&mut self.in_metadata, false) {
                return self.end();
            }
            self.separator()?;
        }
        let name = self.text()?;
        if self.in_metadata {
            self.skip(":")?;
            let value = self.text()?;
            self.separator()?;
            return Some(Item::Metadata(name, value));
        }
        if name == "__metadata__" {
            if std::mem::replace(&mut self.has_metadata, true) {
                return None;
            }
            self.skip(":{")?;
            self.in_metadata = true;
            return self.next();
        }
        self.tensor(name).map(Item::Tensor)
    }

    /// Everything of a tensor behind its name, and the comma.
    fn tensor(&mut self, name: &'h str) -> Option<Described<'h, '_>> {
        self.skip(":{\"dtype\":")?;
        let dtype = self.text()?;
        self.skip(",\"shape\":[")?;
        self.shape.clear();
        if self.skip("]").is_none() {
            loop {
                let size = usize::try_from(self.number()?).ok()?;
                self.shape.push(size);
                if self.skip(",").is_none() {
                    break self.skip("]")?;
                }
            }
        }
        self.skip(",\"data_offsets\":[")?;
        let begin = self.number()?;
        self.skip(",")?;
        let end = self.number()?;
        self.skip("]}")?;
        self.separator()?;
        Some(Described {
            name,
            dtype,
            shape: &self.shape,
            data_offsets: (begin, end),
        })
    }

    /// A comma, and something behind it, or the end of the map.
    fn separator(&mut self) -> Option<()> {
        if self.follows("}") {
            return Some(());
        }
        self.skip(",")?;
        self.follows("\"").then_some(())
    }

    fn end(&self) -> Option<Item<'h, '_>> {
        let padding = &self.header.as_bytes()[self.at..];
        padding
            .iter()
            .all(|&byte| byte == b' ')
            .then_some(Item::End)
    }

    fn follows(&self, text: &str) -> bool {
        self.header.as_bytes()[self.at..].starts_with(text.as_bytes())
    }

    #[inline]
    fn skip(&mut self, text: &str) -> Option<()> {
        self.follows(text).then(|| self.at += text.len())
    }

    /// Text between quotes, which stands for itself.
    #[inline]
    fn text(&mut self) -> Option<&'h str> {
        self.skip("\"")?;
        let left = &self.header.as_bytes()[self.at..];
        let len = memchr::memchr(b'"', left)?;
        let text = &self.header[self.at..][..len];
        self.at += len + 1;
        Some(text)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let left = &self.header.as_bytes()[self.at..];
        let digits = left.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = &left[..digits];
        // JSON has no leading zeros.
        if digits == 0 || (digits > 1 && number[0] == b'0') {
            return None;
        }
        self.at += digits;
        number.iter().try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
    }
}
