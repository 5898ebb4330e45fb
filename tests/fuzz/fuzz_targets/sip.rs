//! SIP: datagrams and streams; what is sound is written back and must be read the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use webtrunk::sip::build::Writer;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::stream::Framer;
use webtrunk::sip::{Message, Uri};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::parse(bytes.to_vec(), Framing::Datagram)
        && message.check().is_ok()
        && message.is_request()
    {
        let _ = Uri::parse(message.request_uri());
        let response = Writer::response(&message, 200, Some("t")).end();
        let back = Message::parse(response.to_vec(), Framing::WebSocket).expect("ours is sound");
        assert_eq!(back.call_id(), message.call_id());
    }
    let mut framer = Framer::default();
    framer.push(bytes);
    while let Ok(Some(_)) = framer.next_frame() {}
});
