//! RFC 4475: the 49 messages of section 3, as the bytes of the archive in its appendix A.
//! `rfc4475/` holds the files as they come out of it, without `test.dat`, which no section
//! describes; `SHA256SUMS` keeps them from being edited.

use super::Verdict::{self, *};

/// One message: section and file, bytes, what the parser makes of them, the status of the first
/// answer that a trunk gets to them (or none), and why.
pub(crate) struct Torture {
    pub section: &'static str,
    pub file: &'static str,
    pub bytes: &'static [u8],
    pub verdict: Verdict,
    pub answer: Option<u16>,
    pub why: &'static str,
}

macro_rules! message {
    ($section:literal, $file:literal, $verdict:expr, $answer:expr, $why:literal) => {
        Torture {
            section: $section,
            file: $file,
            bytes: include_bytes!(concat!("rfc4475/", $file, ".dat")),
            verdict: $verdict,
            answer: $answer,
            why: $why,
        }
    };
}

pub(crate) const MESSAGES: &[Torture] = &[
    message!(
        "3.1.1.1",
        "wsinv",
        Sound,
        Some(481),
        "folding and white space all over; its To has a tag, and no such dialog exists"
    ),
    message!(
        "3.1.1.2",
        "intmeth",
        Sound,
        Some(501),
        "every character a method may have; the RFC proposes 501"
    ),
    message!(
        "3.1.1.3",
        "esc01",
        Sound,
        Some(404),
        "escapes in URIs stand for what they say: a URI, which is no number of the dialplan"
    ),
    message!(
        "3.1.1.4",
        "escnull",
        Sound,
        Some(405),
        "an escaped NUL is a user name like another; no trunk registers here"
    ),
    message!(
        "3.1.1.5",
        "esc02",
        Sound,
        Some(501),
        "the method is RE%47IST%45R: nothing is unescaped in a method"
    ),
    message!("3.1.1.6", "lwsdisp", Sound, Some(200), "no space between display name and bracket"),
    message!("3.1.1.7", "longreq", Sound, Some(100), "long values, and 34 Vias"),
    message!(
        "3.1.1.8",
        "dblreq",
        Sound,
        Some(405),
        "what follows in the datagram is no part of it: one answer, to the REGISTER"
    ),
    message!("3.1.1.9", "semiuri", Sound, Some(200), "semicolons within the user part"),
    message!(
        "3.1.1.10",
        "transports",
        Sound,
        Some(200),
        "transports nobody knows, in Vias beneath the first"
    ),
    message!(
        "3.1.1.11",
        "mpart01",
        Sound,
        Some(405),
        "a body of two parts, one binary; this trunk may not send texts"
    ),
    message!(
        "3.1.1.12",
        "unreason",
        Sound,
        None,
        "a reason beyond ASCII; it answers nothing of ours"
    ),
    message!("3.1.1.13", "noreason", Sound, None, "an empty reason; it answers nothing of ours"),
    message!(
        "3.1.2.1",
        "badinv01",
        Sound,
        Some(100),
        "the RFC has it refused; but nothing that is needed stands between its semicolons"
    ),
    message!("3.1.2.2", "clerr", Refused(400), Some(400), "Content-Length beyond the datagram"),
    message!("3.1.2.3", "ncl", Refused(400), Some(400), "negative Content-Length"),
    message!("3.1.2.4", "scalar02", Refused(400), Some(400), "CSeq beyond 2^31"),
    message!(
        "3.1.2.5",
        "scalarlg",
        Dropped,
        None,
        "a response with a CSeq beyond 2^31 matches nothing"
    ),
    message!(
        "3.1.2.6",
        "quotbal",
        Sound,
        Some(100),
        "a quote that does not end: the RFC lets an element infer the address in brackets"
    ),
    message!(
        "3.1.2.7",
        "ltgtruri",
        Refused(400),
        Some(400),
        "angle brackets round the Request-URI"
    ),
    message!("3.1.2.8", "lwsruri", Refused(400), Some(400), "white space within the Request-URI"),
    message!("3.1.2.9", "lwsstart", Refused(400), Some(400), "two spaces in the start line"),
    message!("3.1.2.10", "trws", Refused(400), Some(400), "white space after the version"),
    message!(
        "3.1.2.11",
        "escruri",
        Sound,
        Some(100),
        "headers in a Request-URI: the RFC lets an element ignore them, and they are never used"
    ),
    message!(
        "3.1.2.12",
        "baddate",
        Sound,
        Some(100),
        "a Date that is not GMT: the RFC lets who does not use it ignore it"
    ),
    message!(
        "3.1.2.13",
        "regbadct",
        Refused(400),
        Some(400),
        "a Contact with ? and no angle brackets"
    ),
    message!(
        "3.1.2.14",
        "badaspec",
        Sound,
        Some(200),
        "spaces within the brackets: the RFC lets an element ignore them"
    ),
    message!(
        "3.1.2.15",
        "baddn",
        Refused(400),
        Some(400),
        "the archive's file lacks the blank line: baddn_with_its_blank_line is Sound"
    ),
    message!("3.1.2.16", "badvers", Refused(505), Some(505), "a version that is not spoken here"),
    message!("3.1.2.17", "mismatch01", Refused(400), Some(400), "CSeq names another method"),
    message!(
        "3.1.2.18",
        "mismatch02",
        Refused(400),
        Some(400),
        "CSeq names another method, and the method is unknown"
    ),
    message!("3.1.2.19", "bigcode", Dropped, None, "a status code beyond 699"),
    message!(
        "3.2.1",
        "badbranch",
        Sound,
        Some(200),
        "the cookie alone: matched by the rules of RFC 2543"
    ),
    message!("3.3.1", "insuf", Refused(400), Some(400), "no From, To, Call-ID"),
    message!("3.3.2", "unkscm", Sound, Some(416), "a scheme nobody knows in the Request-URI"),
    message!("3.3.3", "novelsc", Sound, Some(416), "a known scheme that is not SIP"),
    message!(
        "3.3.4",
        "unksm2",
        Sound,
        Some(405),
        "unknown schemes in To and From are legal; no trunk registers here"
    ),
    message!("3.3.5", "bext01", Sound, Some(420), "Require names extensions nobody supports"),
    message!("3.3.6", "invut", Sound, Some(415), "a body of an unknown type"),
    message!(
        "3.3.7",
        "regaut01",
        Sound,
        Some(405),
        "credentials of an unknown scheme count as none; no trunk registers here"
    ),
    message!(
        "3.3.8",
        "multi01",
        Refused(400),
        Some(400),
        "CSeq, Call-ID, To and From twice, and different"
    ),
    message!("3.3.9", "mcl01", Refused(400), Some(400), "two lengths that disagree"),
    message!(
        "3.3.10",
        "bcast",
        Sound,
        None,
        "a broadcast Via: responses are matched by branch, and none is sent to a Via's host"
    ),
    message!(
        "3.3.11",
        "zeromf",
        Sound,
        Some(200),
        "it has arrived: nothing is forwarded, and an endpoint does not count hops"
    ),
    message!(
        "3.3.12",
        "cparam01",
        Sound,
        Some(405),
        "an unknown parameter is the header's; no trunk registers here"
    ),
    message!(
        "3.3.13",
        "cparam02",
        Sound,
        Some(405),
        "an unknown parameter is the URI's; no trunk registers here"
    ),
    message!(
        "3.3.14",
        "regescrt",
        Sound,
        Some(405),
        "headers in a Contact are kept, never used; no trunk registers here"
    ),
    message!(
        "3.3.15",
        "sdp01",
        Sound,
        Some(100),
        "the RFC proposes 406 for its Accept; but who offers SDP reads the answer to it"
    ),
    message!(
        "3.4.1",
        "inv2543",
        Sound,
        Some(400),
        "no branch, tag or Max-Forwards is fine; but no Contact, so no dialog (3261 §8.1.1.8)"
    ),
];
