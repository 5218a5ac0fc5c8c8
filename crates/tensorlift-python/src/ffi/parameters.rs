//! Memory of Python objects that a load fills.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::error::misuse;

/// Named buffers, held until this is dropped: their objects neither move nor free them meanwhile.
pub(crate) struct Parameters {
    buffers: Vec<(String, PyBuffer<u8>)>,
}

impl Parameters {
    /// Takes objects with writable, contiguous bytes, of which no two share any.
    pub(crate) fn new(py: Python<'_>, objects: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<Self> {
        let mut buffers = Vec::with_capacity(objects.len());
        for (name, object) in objects {
            let buffer = PyBuffer::<u8>::get(&object)?;
            if buffer.readonly() || !buffer.is_c_contiguous() {
                let found = format!("the memory of {name:?} is read-only or has gaps");
                return Err(misuse(py, found, "pass writable, contiguous memory"));
            }
            buffers.push((name, buffer));
        }
        let mut places: Vec<(usize, usize)> = buffers
            .iter()
            .map(|(_, buffer)| (buffer.buf_ptr().addr(), buffer.len_bytes()))
            .filter(|&(_, len)| len > 0)
            .collect();
        places.sort_unstable();
        if places
            .windows(2)
            .any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
        {
            let found = "two parameters share memory";
            return Err(misuse(py, found, "pass one name for each memory"));
        }
        Ok(Self { buffers })
    }

    /// The bytes of each, for one load.
    pub(crate) fn memory(&mut self) -> Vec<(String, &mut [u8])> {
        let buffers = self.buffers.iter_mut();
        let memory = buffers.map(|(name, buffer)| (name.clone(), bytes_of(buffer)));
        memory.collect()
    }
}

fn bytes_of(buffer: &mut PyBuffer<u8>) -> &mut [u8] {
    match buffer.len_bytes() {
        0 => &mut [],
        // SAFETY: the buffer is held for as long as it is borrowed here, it is writable,
        // contiguous and of this length, and no two overlap: `new` looked; `memory` borrows all of
        // them at once and alone. Python code that writes to a parameter while it is loaded races
        // with the load, as with any other copy into it; `load_into` says so.
        len => unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast(), len) },
    }
}
