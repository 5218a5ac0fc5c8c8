//! Copies.

use std::ffi::c_void;

use super::done;
use crate::state::{Code, INVALID_VALUE, NOT_SUPPORTED, SUCCESS, State, enter};
use crate::stream::{HostBytes, Stream, Work};

/// Enqueues an upload from host memory that the caller vouches for.
fn upload(
    state: &mut State,
    to: u64,
    from: usize,
    len: usize,
    stream: &Stream,
) -> Result<(), Code> {
    if state.memory.bytes(to, len, None).is_none() {
        return Err(INVALID_VALUE);
    }
    let from = match state.memory.is_pinned(from, len) {
        true => HostBytes::Pinned { start: from, len },
        false => {
            state.memory.pageable_copies += 1;
            // SAFETY: the caller gave `len` readable bytes at `from`.
            HostBytes::Taken(unsafe { std::slice::from_raw_parts(from as *const u8, len) }.to_vec())
        }
    };
    state.about(len);
    stream.enqueue(Work::Upload { to, from });
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    len: usize,
    stream: usize,
) -> Code {
    done(enter("cuMemcpyHtoDAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        upload(&mut state, to, from.addr(), len, &stream)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, stream: usize) -> Code {
    let waits = enter("cuMemcpyDtoHAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        if state.memory.bytes(from, len, None).is_none() {
            return Err(INVALID_VALUE);
        }
        let to = to.addr();
        stream.enqueue(Work::Download { to, from, len });
        // The driver comes back late from a copy to memory that is not pinned.
        Ok((!state.memory.is_pinned(to, len)).then_some(stream))
    });
    match waits {
        Err(code) => code,
        Ok(stream) => {
            stream.inspect(|stream| stream.wait());
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: usize) -> Code {
    done(enter("cuMemcpyDtoDAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        for address in [to, from] {
            if state.memory.bytes(address, len, None).is_none() {
                return Err(INVALID_VALUE);
            }
        }
        stream.enqueue(Work::Move { to, from, len });
        Ok(())
    }))
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
struct Rows {
    from: End,
    to: End,
    width: usize,
    height: usize,
}

#[repr(C)]
struct End {
    x: usize,
    y: usize,
    kind: u32,
    host: usize,
    device: u64,
    array: usize,
    pitch: usize,
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy2DAsync_v2(rows: *const Rows, stream: usize) -> Code {
    /// `CU_MEMORYTYPE_DEVICE`.
    const DEVICE: u32 = 2;
    done(enter("cuMemcpy2DAsync_v2").and_then(|mut state| {
        let stream = state.stream(stream)?;
        // SAFETY: the caller gave a description of the copy.
        let rows = unsafe { rows.as_ref() }.ok_or(INVALID_VALUE)?;
        let narrow = rows.from.pitch.min(rows.to.pitch) < rows.width;
        // Only what is needed: from device to device, from the very beginning of both.
        let other = [&rows.from, &rows.to].map(|end| (end.kind, end.x, end.y) != (DEVICE, 0, 0));
        if narrow || other.contains(&true) {
            return Err(INVALID_VALUE);
        }
        for row in 0..rows.height {
            let at = |end: &End| end.device + (row * end.pitch) as u64;
            let (to, from, len) = (at(&rows.to), at(&rows.from), rows.width);
            for address in [to, from] {
                if state.memory.bytes(address, len, None).is_none() {
                    return Err(INVALID_VALUE);
                }
            }
            stream.enqueue(Work::Move { to, from, len });
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, byte: u8, len: usize, stream: usize) -> Code {
    done(enter("cuMemsetD8Async").and_then(|mut state| {
        let stream = state.stream(stream)?;
        if state.memory.bytes(to, len, None).is_none() {
            return Err(INVALID_VALUE);
        }
        stream.enqueue(Work::Fill { to, byte, len });
        Ok(())
    }))
}

/// The arguments that both versions of the batched copy share.
struct Batch {
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    stream: usize,
}

fn batch(call: &'static str, batch: &Batch) -> Code {
    done(enter(call).and_then(|mut state| {
        if state.settings.batch == 0 {
            return Err(NOT_SUPPORTED);
        }
        let wrong = batch.attributes.is_null() || batch.attribute_starts.is_null();
        // The legacy default stream is refused, and at least one set of attributes asked for.
        if batch.stream <= 2 || batch.count == 0 || batch.attribute_count == 0 || wrong {
            return Err(INVALID_VALUE);
        }
        let stream = state.stream(batch.stream)?;
        for i in 0..batch.count {
            // SAFETY: the caller gave three arrays of `count` elements.
            let (to, from, len) =
                unsafe { (*batch.to.add(i), *batch.from.add(i), *batch.sizes.add(i)) };
            let from = usize::try_from(from).map_err(|_| INVALID_VALUE)?;
            upload(&mut state, to, from, len, &stream)?;
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyBatchAsync(
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    _failed: *mut usize,
    stream: usize,
) -> Code {
    let arguments = Batch {
        to,
        from,
        sizes,
        count,
        attributes,
        attribute_starts,
        attribute_count,
        stream,
    };
    batch("cuMemcpyBatchAsync", &arguments)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyBatchAsync_v2(
    to: *const u64,
    from: *const u64,
    sizes: *const usize,
    count: usize,
    attributes: *const c_void,
    attribute_starts: *const usize,
    attribute_count: usize,
    stream: usize,
) -> Code {
    let arguments = Batch {
        to,
        from,
        sizes,
        count,
        attributes,
        attribute_starts,
        attribute_count,
        stream,
    };
    batch("cuMemcpyBatchAsync_v2", &arguments)
}
