//! STUN binding requests.
#![no_main]
use libfuzzer_sys::fuzz_target;
use webtrunk::media::stun::BindingRequest;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = BindingRequest::parse(bytes) {
        let _ = (request.local_ufrag(), request.remote_ufrag(), request.is_authentic("password"));
        let _ = request.success(([192, 0, 2, 1], 1).into(), "password");
    }
});
