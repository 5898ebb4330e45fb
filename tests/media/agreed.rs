//! What a negotiation settled with a peer that wants nothing special.

use webtrunk::codec::Codec;
use webtrunk::media::{Digits, EndpointSettings, MediaWatch};
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::{Negotiated, Remote};

/// Both ways with one codec, without telephone-events, encoded at this complexity.
pub(crate) fn agreed(codec: Codec, remote: Remote, complexity: u8) -> EndpointSettings {
    let payload_type = codec.default_payload_type();
    let negotiated = Negotiated {
        codec,
        send: payload_type,
        receive: vec![(payload_type, codec)],
        events: Default::default(),
        noise: None,
        direction: Direction::SendRecv,
        remote,
        max_average_bitrate: None,
        voip_metrics: false,
        audio_level: None,
        ptime: 20,
        ptime_asked: false,
        max_ptime: None,
    };
    EndpointSettings {
        negotiated,
        complexity,
        digits: Digits::Events,
        continuous: false,
        watch: MediaWatch::default(),
    }
}
