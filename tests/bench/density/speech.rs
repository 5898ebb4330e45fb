//! The speech both peers get: PCMU frames, and Opus packets as a browser makes them.

use audiopus::coder::Encoder;
use audiopus::{Application, Bandwidth, Bitrate, Channels, SampleRate, Signal};
use webtrunk::codec::g711::Law;

/// Samples of a 20 ms frame at 8 kHz.
const FRAME: usize = 160;

/// The same speech in both codecs, a frame of 20 ms each.
pub(crate) struct Speech {
    pub pcmu: Vec<Vec<u8>>,
    /// As a browser encodes it unasked.
    pub opus: Vec<Vec<u8>>,
    /// As it does for a gateway whose description asks for no more than the telephone hears.
    pub asked: Vec<Vec<u8>>,
}

impl Speech {
    /// Reads 8 kHz 16-bit mono. `loss` is the loss that reports give the browser, percent.
    pub(crate) fn read(path: &str, loss: u8) -> Speech {
        let mut reader = hound::WavReader::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(
            (reader.spec().sample_rate, reader.spec().channels),
            (8_000, 1),
            "{path} must be 8 kHz mono"
        );
        let pcm: Vec<i16> = reader.samples::<i16>().map(|s| s.expect("a sample")).collect();
        let mu = |frame: &[i16]| {
            let mut codes = vec![0; FRAME];
            Law::Mu.encode(frame, &mut codes);
            codes
        };
        Speech {
            pcmu: pcm.chunks_exact(FRAME).map(mu).collect(),
            opus: opus(&pcm, Bandwidth::Fullband, loss),
            asked: opus(&pcm, Bandwidth::Narrowband, loss),
        }
    }
}

/// As Chromium encodes a microphone: 48 kHz input, 32 kbit/s, in-band FEC. The telephone speech we
/// have is brought to 48 kHz by straight lines between its samples, which also gives the encoder
/// something up there.
fn opus(pcm: &[i16], bandwidth: Bandwidth, loss: u8) -> Vec<Vec<u8>> {
    let mut encoder =
        Encoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip).expect("an encoder");
    encoder.set_bitrate(Bitrate::BitsPerSecond(32_000)).expect("a bit rate");
    encoder.set_signal(Signal::Voice).expect("a signal");
    encoder.set_inband_fec(true).expect("FEC");
    encoder.set_packet_loss_perc(loss).expect("a share");
    encoder.set_bandwidth(bandwidth).expect("a bandwidth");
    let mut last = 0i32;
    pcm.chunks_exact(FRAME)
        .map(|frame| {
            let mut up = [0i16; FRAME * 6];
            for (n, &sample) in frame.iter().enumerate() {
                for step in 0..6 {
                    up[n * 6 + step] =
                        (last + (i32::from(sample) - last) * (step as i32 + 1) / 6) as i16;
                }
                last = i32::from(sample);
            }
            let mut packet = [0u8; 1_000];
            let len = encoder.encode(&up, &mut packet).expect("a packet");
            packet[..len].to_vec()
        })
        .collect()
}
