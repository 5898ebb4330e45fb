//! G.711 by tables made at compile time and viewed through bytemuck (ITU-T G.711).

/// The two companding laws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Law {
    /// North America and Japan.
    Mu,
    /// Elsewhere.
    A,
}

const fn mu_to_linear(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((code & 0x0f) as i16) << 3) + 0x84;
    let magnitude = (magnitude << ((code & 0x70) >> 4)) - 0x84;
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

const fn a_to_linear(code: u8) -> i16 {
    let code = code ^ 0x55;
    let exponent = (code & 0x70) >> 4;
    let mantissa = ((code & 0x0f) as i16) << 4;
    let magnitude = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

const fn linear_to_mu(sample: i16) -> u8 {
    let negative = sample < 0;
    let mut magnitude = if negative { -(sample as i32) } else { sample as i32 };
    if magnitude > 32_635 {
        magnitude = 32_635;
    }
    magnitude += 0x84;
    let mut exponent = 7;
    while exponent > 0 && magnitude & (0x80 << exponent) == 0 {
        exponent -= 1;
    }
    let mantissa = ((magnitude >> (exponent + 3)) & 0x0f) as u8;
    !((if negative { 0x80 } else { 0 }) | ((exponent as u8) << 4) | mantissa)
}

const fn linear_to_a(sample: i16) -> u8 {
    let negative = sample < 0;
    // One's complement keeps the segments of both signs symmetric.
    let magnitude = if negative { !(sample as i32) } else { sample as i32 };
    let mut exponent = 7;
    while exponent > 0 && magnitude & (0x80 << exponent) == 0 {
        exponent -= 1;
    }
    let shift = if exponent == 0 { 4 } else { exponent + 3 };
    let mantissa = ((magnitude >> shift) & 0x0f) as u8;
    ((if negative { 0 } else { 0x80 }) | ((exponent as u8) << 4) | mantissa) ^ 0x55
}

const fn decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = match law {
            Law::Mu => mu_to_linear(n as u8),
            Law::A => a_to_linear(n as u8),
        };
        n += 1;
    }
    table
}

/// Indexed by the sample's upper 14 bits (µ-law) or 13 bits (A-law resolves no more): 16,384
/// entries each.
const fn encode_table(law: Law) -> [u8; 16_384] {
    let mut table = [0; 16_384];
    let mut n = 0;
    while n < 16_384 {
        let sample = ((n as u32) << 2) as u16 as i16;
        table[n] = match law {
            Law::Mu => linear_to_mu(sample),
            Law::A => linear_to_a(sample),
        };
        n += 1;
    }
    table
}

static MU_DECODE: [i16; 256] = decode_table(Law::Mu);
static A_DECODE: [i16; 256] = decode_table(Law::A);
/// The squares of what codes stand for.
const fn square_table(decoded: &[i16; 256]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = (decoded[n].unsigned_abs() as u32).pow(2);
        n += 1;
    }
    table
}

static MU_SQUARES: [u32; 256] = square_table(&decode_table(Law::Mu));
static A_SQUARES: [u32; 256] = square_table(&decode_table(Law::A));
static MU_ENCODE: [u8; 16_384] = encode_table(Law::Mu);
static A_ENCODE: [u8; 16_384] = encode_table(Law::A);

impl Law {
    /// Expands `codes` into `pcm` of the same length.
    pub fn decode(self, codes: &[u8], pcm: &mut [i16]) {
        let table = match self {
            Law::Mu => &MU_DECODE,
            Law::A => &A_DECODE,
        };
        for (out, code) in pcm.iter_mut().zip(codes) {
            *out = table[*code as usize];
        }
    }

    /// The sum of the squares of the samples that `codes` stand for.
    pub(crate) fn power(self, codes: &[u8]) -> u64 {
        let table = match self {
            Law::Mu => &MU_SQUARES,
            Law::A => &A_SQUARES,
        };
        codes.iter().map(|code| u64::from(table[*code as usize])).sum()
    }

    /// Compresses `pcm` into `codes` of the same length.
    pub fn encode(self, pcm: &[i16], codes: &mut [u8]) {
        let table = match self {
            Law::Mu => &MU_ENCODE,
            Law::A => &A_ENCODE,
        };
        // The samples' bits, unsigned, index the table: no branch in the loop.
        let bits: &[u16] = bytemuck::cast_slice(pcm);
        for (out, sample) in codes.iter_mut().zip(bits) {
            *out = table[(*sample >> 2) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(law: Law, code: u8) -> u8 {
        let (mut pcm, mut back) = ([0i16], [0u8]);
        law.decode(&[code], &mut pcm);
        law.encode(&pcm, &mut back);
        back[0]
    }

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for code in 0..=255u8 {
            // µ-law has two zeros; the negative one comes back as the positive.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(round_trip(Law::Mu, code), expected, "mu {code:#x}");
            assert_eq!(round_trip(Law::A, code), code, "a {code:#x}");
        }
    }

    #[test]
    fn every_sample_is_encoded_within_half_a_step_of_its_segment() {
        for (law, table) in [(Law::Mu, &MU_DECODE), (Law::A, &A_DECODE)] {
            for sample in i16::MIN..=i16::MAX {
                let mut code = [0u8];
                law.encode(&[sample], &mut code);
                let error = (i32::from(table[code[0] as usize]) - i32::from(sample)).abs();
                let bits = if law == Law::Mu { !code[0] } else { code[0] ^ 0x55 };
                let exponent = u32::from((bits >> 4) & 7);
                let half_step = if law == Law::A && exponent == 0 { 8 } else { 4 << exponent };
                // The table resolves 4 units of 65,536; the loudest samples clip.
                let clipped = i32::from(sample).abs() > 32_256;
                assert!(
                    error <= half_step + 4 || clipped && error <= 1_024,
                    "{law:?} {sample}: off by {error}"
                );
            }
        }
    }

    #[test]
    fn silence_and_known_points_match_the_standard() {
        let mut code = [0u8; 3];
        Law::Mu.encode(&[0, 32_767, -32_768], &mut code);
        assert_eq!(code, [0xff, 0x80, 0x00]);
        Law::A.encode(&[0, 32_767, -32_768], &mut code);
        assert_eq!(code, [0xd5, 0xaa, 0x2a]);
    }
}
