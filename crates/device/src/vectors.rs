use bytemuck::Zeroable;
use half::{bf16, f16};
use tensorlift_storage::os;
use tensorlift_tensor_meta::Dtype;

use crate::{Destination, Device, DeviceError, Group, GroupRequest, GroupRules, HostDevice};

/// Host memory whose groups are vectors of one Rust type, for programs that own a `Vec<f32>`.
///
/// All tensors of one file and dtype share a vector, each at its place;
/// [`with_exact_groups`](Self::with_exact_groups) makes one for each tensor.
/// [`take_group`](crate::take_group) takes a [`VecGroup`] out of what was loaded.
///
/// A vector begins where the allocator puts it, so direct reads go through scratch memory, which a
/// [`HostDevice`] does not need.
#[derive(Clone, Copy, Debug, Default)]
pub struct VecDevice {
    exact: bool,
}

impl VecDevice {
    /// A vector for each file and dtype.
    #[must_use]
    pub const fn new() -> Self {
        Self { exact: false }
    }

    /// A vector for each tensor, with exactly its elements in row-major order.
    #[must_use]
    pub const fn with_exact_groups(mut self) -> Self {
        self.exact = true;
        self
    }
}

impl Device for VecDevice {
    fn name(&self) -> String {
        "vec".into()
    }

    fn rules(&self) -> GroupRules {
        GroupRules {
            one_dtype: true,
            exact: self.exact,
            ..GroupRules::default()
        }
    }

    fn reserve(&self, bytes: u64) -> Result<(), DeviceError> {
        HostDevice::new().reserve(bytes)
    }

    fn allocate(&self, request: &GroupRequest<'_>) -> Result<Box<dyn Group>, DeviceError> {
        let group = VecGroup::zeroed(request.dtype, request.bytes);
        let mut group = group.ok_or_else(|| DeviceError::Allocation {
            device: self.name(),
            needed: request.bytes as u64,
            source: std::io::ErrorKind::OutOfMemory.into(),
        })?;
        os::advise_huge_pages(group.as_bytes_mut());
        Ok(Box::new(group))
    }
}

macro_rules! elements {
    ($($dtype:ident: $element:ty),* $(,)?) => {
        /// The memory of a [`VecDevice`] group: a vector, by the dtype of its tensors.
        ///
        /// ```
        /// use tensorlift_device::{Device, GroupRequest, VecDevice, VecGroup, take_group};
        /// use tensorlift_tensor_meta::Dtype;
        ///
        /// let group = VecDevice::new().allocate(&GroupRequest::new(8).dtype(Dtype::F32))?;
        /// let group: VecGroup = take_group(group.into()).expect("the one owner");
        /// let values: Vec<f32> = group.try_into().expect("F32 was asked for");
        /// assert_eq!(values, [0.0, 0.0]);
        /// # Ok::<(), tensorlift_device::DeviceError>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum VecGroup {
            $(
                #[doc = concat!("Elements of [`Dtype::", stringify!($dtype), "`].")]
                $dtype(Vec<$element>),
            )*
            /// Elements of [`Dtype::U8`], and the bytes of dtypes that Rust has no type for:
            /// `Bool`, since a byte that is neither 0 nor 1 is no `bool`, quantized ones, and
            /// floats of 8 bits and less.
            U8(Vec<u8>),
        }

        impl VecGroup {
            /// Zeros, unless there is no memory for them.
            fn zeroed(dtype: Option<Dtype>, bytes: usize) -> Option<Self> {
                Some(match dtype {
                    $(Some(Dtype::$dtype) => Self::$dtype(zeroed(bytes)?),)*
                    _ => Self::U8(zeroed(bytes)?),
                })
            }

            /// The bytes of its elements.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                match self {
                    $(Self::$dtype(elements) => bytemuck::cast_slice(elements),)*
                    Self::U8(bytes) => bytes,
                }
            }

            fn as_bytes_mut(&mut self) -> &mut [u8] {
                match self {
                    $(Self::$dtype(elements) => bytemuck::cast_slice_mut(elements),)*
                    Self::U8(bytes) => bytes,
                }
            }
        }

        $(
            impl TryFrom<VecGroup> for Vec<$element> {
                /// The group, if it is of another dtype.
                type Error = VecGroup;

                fn try_from(group: VecGroup) -> Result<Self, VecGroup> {
                    match group {
                        VecGroup::$dtype(elements) => Ok(elements),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

// Complex elements are pairs of real and imaginary part.
elements! {
    I8: i8,
    I16: i16,
    U16: u16,
    F16: f16,
    BF16: bf16,
    I32: i32,
    U32: u32,
    F32: f32,
    C32: [f16; 2],
    BC32: [bf16; 2],
    F64: f64,
    I64: i64,
    U64: u64,
    C64: [f32; 2],
    C128: [f64; 2],
}

impl TryFrom<VecGroup> for Vec<u8> {
    /// The group, if it is of another dtype.
    type Error = VecGroup;

    fn try_from(group: VecGroup) -> Result<Self, VecGroup> {
        match group {
            VecGroup::U8(bytes) => Ok(bytes),
            other => Err(other),
        }
    }
}

impl Group for VecGroup {
    fn len(&self) -> usize {
        self.as_bytes().len()
    }

    fn destination(&mut self) -> Destination<'_> {
        Destination::Host(self.as_bytes_mut())
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_host(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
}

/// Zeros that take `bytes` bytes.
fn zeroed<T: Zeroable>(bytes: usize) -> Option<Vec<T>> {
    bytemuck::try_zeroed_vec(bytes / size_of::<T>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_of_whole_bytes_has_the_type_of_its_elements() {
        for &dtype in Dtype::ALL {
            let group = VecGroup::zeroed(Some(dtype), 64).unwrap();
            let shown = format!("{group:?}");
            let bytes_alone = dtype.bits() <= 8 || format!("{dtype}").starts_with('Q');
            let expected = match bytes_alone && dtype != Dtype::I8 {
                true => "U8(".to_owned(),
                false => format!("{dtype}("),
            };
            assert!(shown.starts_with(&expected), "{dtype}: {shown}");
            assert_eq!(group.as_bytes().len(), 64);
        }
        assert!(Vec::<i64>::try_from(VecGroup::F64(vec![1.0])).is_err());
    }

    #[test]
    fn memory_that_there_is_not_is_a_typed_error() {
        let request = GroupRequest::new(isize::MAX as usize - 7).dtype(Dtype::F64);
        let error = VecDevice::new().allocate(&request).unwrap_err();
        assert!(matches!(error, DeviceError::Allocation { .. }), "{error}");
    }
}
