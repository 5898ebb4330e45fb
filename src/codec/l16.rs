//! L16: samples as they are, in network byte order (RFC 3551 §4.5.11). At 8 kHz only, which needs
//! no resampler.

/// The samples of a payload; returns how many. A trailing odd byte is ignored.
pub(crate) fn decode(payload: &[u8], pcm: &mut [i16]) -> usize {
    let (samples, _) = payload.as_chunks::<2>();
    pcm.iter_mut().zip(samples).map(|(out, bytes)| *out = i16::from_be_bytes(*bytes)).count()
}

/// The payload of samples; returns its length in bytes.
pub(crate) fn encode(pcm: &[i16], payload: &mut [u8]) -> usize {
    let (room, _) = payload.as_chunks_mut::<2>();
    room.iter_mut().zip(pcm).map(|(out, sample)| *out = sample.to_be_bytes()).count() * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_back_and_nothing_is_read_or_written_past_an_end() {
        let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let (mut payload, mut back) = (vec![0; all.len() * 2], vec![0; all.len()]);
        assert_eq!(encode(&all, &mut payload), payload.len());
        assert_eq!(payload[..4], [0x80, 0x00, 0x80, 0x01]);
        assert_eq!((decode(&payload, &mut back), &back), (all.len(), &all));
        assert_eq!((decode(&[1, 2, 3], &mut back), back[0]), (1, 0x0102));
        assert_eq!(decode(&payload, &mut [0; 3]), 3);
        assert_eq!(encode(&all, &mut [0; 5]), 4);
    }
}
