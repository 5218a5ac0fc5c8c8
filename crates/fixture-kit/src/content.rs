use tensorlift_tensor_meta::Dtype;

/// Bytes written at a time; a multiple of every element size.
pub(crate) const CHUNK: usize = 1 << 20;

/// Fills `out` with the bytes from `offset` on of the endless pseudo-random stream of `seed`.
///
/// Any part of the stream can be made without the part before it, at the speed of memory.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let skip = (offset % 8) as usize;
    let mut index = offset / 8;
    let mut out = out;
    if skip != 0 {
        let head = (8 - skip).min(out.len());
        let (first, rest) = out.split_at_mut(head);
        first.copy_from_slice(&word(seed, index)[skip..skip + head]);
        out = rest;
        index += 1;
    }
    let mut words = out.chunks_exact_mut(8);
    for chunk in &mut words {
        chunk.copy_from_slice(&word(seed, index));
        index += 1;
    }
    let tail = words.into_remainder();
    tail.copy_from_slice(&word(seed, index)[..tail.len()]);
}

/// The seed of the stream numbered `index` among those of `seed`.
pub(crate) fn stream(seed: u64, index: u64) -> u64 {
    u64::from_le_bytes(word(seed ^ 0x7465_6e73_6f72, index))
}

/// [`fill`], with the bytes that elements of `dtype` may have.
pub(crate) fn fill_elements(seed: u64, dtype: Dtype, offset: u64, out: &mut [u8]) {
    fill(seed, offset, out);
    if dtype == Dtype::Bool {
        out.iter_mut().for_each(|byte| *byte &= 1);
    }
}

fn word(seed: u64, index: u64) -> [u8; 8] {
    // The finaliser of a counter-based generator: fast, and no two words are equal.
    let mut x = seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_equals_the_part_of_the_whole() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        for start in 0..40 {
            for len in 0..50 {
                let mut part = vec![0; len];
                fill(7, start as u64, &mut part);
                assert_eq!(part, whole[start..start + len]);
            }
        }
    }

    #[test]
    fn seeds_and_streams_differ() {
        let bytes = |seed| {
            let mut bytes = [0; 32];
            fill(seed, 0, &mut bytes);
            bytes
        };
        assert_ne!(bytes(1), bytes(2));
        assert_ne!(bytes(stream(1, 0)), bytes(stream(1, 1)));
    }
}
