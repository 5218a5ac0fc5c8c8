use tensorlift_tensor_meta::Limits;

/// The ceilings that hold for one run of the pickle machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ceilings {
    pub(crate) opcodes: u64,
    pub(crate) objects: usize,
    pub(crate) memo: usize,
    pub(crate) string_bytes: usize,
    pub(crate) integer_bytes: usize,
}

impl Ceilings {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            opcodes: limits.pickle_opcodes,
            // Nodes are numbered in 32 bits.
            objects: limits.pickle_objects.min(u32::MAX as usize - 1024),
            memo: limits.pickle_memo,
            string_bytes: limits.pickle_string_bytes,
            integer_bytes: limits.pickle_integer_bytes,
        }
    }
}
