//! Lower-case hexadecimal, written without the formatter: every tag, branch and digest is some.

use rand_core::RngCore;

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
    let mut out = String::with_capacity(2 * bytes.len());
    for b in bytes {
        out.push(digit(b >> 4));
        out.push(digit(b & 0xf));
    }
    out
}

/// `N` random bytes as text: 8 for a tag, 16 if nobody may guess it.
pub(crate) fn token<const N: usize>(random: &mut impl RngCore) -> String {
    let mut bytes = [0; N];
    random.fill_bytes(&mut bytes);
    hex(&bytes)
}
