//! Floats of eight bits, by the rules of PyTorch 2.15: nearest, ties to even.
//!
//! What is beyond the largest number becomes infinity where the type has one (E5M2), that number
//! where it has negative zero and no infinity (E4M3), otherwise NaN.

use tensorlift_tensor_meta::Dtype;

/// The bits of a signed type, and its special values.
struct FloatForm {
    mantissa_bits: u32,
    bias: i32,
    /// The code of the largest number, without the sign.
    largest: u8,
    /// What larger numbers become, without the sign.
    overflow: u8,
    /// The one code of NaN in types that have no negative zero.
    only_nan: Option<u8>,
}

const E4M3: FloatForm = FloatForm {
    mantissa_bits: 3,
    bias: 7,
    largest: 0x7E,
    overflow: 0x7E,
    only_nan: None,
};
const E5M2: FloatForm = FloatForm {
    mantissa_bits: 2,
    bias: 15,
    largest: 0x7B,
    overflow: 0x7C,
    only_nan: None,
};
const E4M3_FNUZ: FloatForm = FloatForm {
    mantissa_bits: 3,
    bias: 8,
    largest: 0x7F,
    overflow: 0x80,
    only_nan: Some(0x80),
};
const E5M2_FNUZ: FloatForm = FloatForm {
    mantissa_bits: 2,
    bias: 16,
    largest: 0x7F,
    overflow: 0x80,
    only_nan: Some(0x80),
};

static E4M3_VALUES: [f32; 256] = E4M3.values();
static E5M2_VALUES: [f32; 256] = E5M2.values();
static E4M3_FNUZ_VALUES: [f32; 256] = E4M3_FNUZ.values();
static E5M2_FNUZ_VALUES: [f32; 256] = E5M2_FNUZ.values();
static E8M0_VALUES: [f32; 256] = powers();

/// The value of each code.
pub(super) fn values(dtype: Dtype) -> Option<&'static [f32; 256]> {
    Some(match dtype {
        Dtype::F8E4M3 => &E4M3_VALUES,
        Dtype::F8E5M2 => &E5M2_VALUES,
        Dtype::F8E4M3Fnuz => &E4M3_FNUZ_VALUES,
        Dtype::F8E5M2Fnuz => &E5M2_FNUZ_VALUES,
        Dtype::F8E8M0 => &E8M0_VALUES,
        _ => return None,
    })
}

/// The function that finds the code of a value.
pub(super) fn encoder(dtype: Dtype) -> Option<fn(f32) -> u8> {
    Some(match dtype {
        Dtype::F8E4M3 => |value| E4M3.encode(value),
        Dtype::F8E5M2 => |value| E5M2.encode(value),
        Dtype::F8E4M3Fnuz => |value| E4M3_FNUZ.encode(value),
        Dtype::F8E5M2Fnuz => |value| E5M2_FNUZ.encode(value),
        Dtype::F8E8M0 => exponent,
        _ => return None,
    })
}

impl FloatForm {
    const fn values(&self) -> [f32; 256] {
        let mut values = [0.0; 256];
        let mut code = 0;
        while code < 256 {
            values[code] = self.value(code as u8);
            code += 1;
        }
        values
    }

    const fn value(&self, code: u8) -> f32 {
        let magnitude = code & 0x7F;
        if let Some(nan) = self.only_nan
            && code == nan
        {
            return f32::NAN;
        }
        let value = if magnitude > self.largest {
            match self.overflow == magnitude {
                true => f32::INFINITY,
                false => f32::NAN,
            }
        } else {
            let mantissa = (magnitude as u32) & ((1 << self.mantissa_bits) - 1);
            let exponent = (magnitude as i32) >> self.mantissa_bits;
            let (mantissa, exponent) = match exponent {
                0 => (mantissa, 1),
                _ => (mantissa | (1 << self.mantissa_bits), exponent),
            };
            let power = exponent - self.bias - self.mantissa_bits as i32;
            mantissa as f32 * power_of_two(power)
        };
        if code >= 0x80 { -value } else { value }
    }

    fn encode(&self, value: f32) -> u8 {
        let sign = ((value.to_bits() >> 24) & 0x80) as u8;
        if value.is_nan() {
            return self.only_nan.unwrap_or(0x7F | sign);
        }
        let magnitude = value.abs();
        let least_normal = 1 - self.bias;
        let code = if magnitude < power_of_two(least_normal) {
            // As a multiple of the type's smallest number; exact, since that is a power of two.
            let count = magnitude * power_of_two(self.mantissa_bits as i32 - least_normal);
            count.round_ties_even() as u32
        } else {
            let dropped = 23 - self.mantissa_bits;
            let bits = magnitude.to_bits();
            let half = (1 << (dropped - 1)) - 1 + ((bits >> dropped) & 1);
            let rounded = (bits + half) >> dropped;
            rounded - (((127 - self.bias) as u32) << self.mantissa_bits)
        };
        match code {
            0 if self.only_nan.is_some() => 0,
            code if code <= u32::from(self.largest) => code as u8 | sign,
            _ => self.overflow | sign,
        }
    }
}

/// A power of two within the normal range of f32.
const fn power_of_two(power: i32) -> f32 {
    f32::from_bits(((power + 127) as u32) << 23)
}

const fn powers() -> [f32; 256] {
    let mut values = [f32::NAN; 256];
    // The smallest one is subnormal in f32.
    values[0] = f32::from_bits(1 << 22);
    let mut code = 1;
    while code < 255 {
        values[code] = f32::from_bits((code as u32) << 23);
        code += 1;
    }
    values
}

/// The exponent of the nearest power of two; the sign is lost, and the tie between a power that
/// is no normal number and the next goes down.
fn exponent(value: f32) -> u8 {
    let bits = value.to_bits() & 0x7FFF_FFFF;
    let exponent = (bits >> 23) as u8;
    let mantissa = bits & 0x7F_FFFF;
    let half = 1 << 22;
    match exponent {
        0xFF => 0xFF,
        0 => u8::from(mantissa > half),
        _ => exponent + u8::from(mantissa >= half),
    }
}
