//! Why a description that left us looks as it does: for each of its lines the line it stands for,
//! and the rule; and for each line it was made from that is gone, why.
//!
//! Descriptions are written anew (`sdp/print.rs`), never edited, so the rule of a line follows from
//! its kind and from whether the other side had one like it.

/// One line's fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineRule {
    /// The line that was sent; `None` if one of the source was omitted.
    pub line: Option<String>,
    /// The line of the other side it stands for, if it is another.
    pub from: Option<String>,
    /// The rule, as text.
    pub why: &'static str,
}

/// `m`, `c`, or an attribute's name.
fn key(line: &str) -> &str {
    match line.strip_prefix("a=") {
        Some(attribute) => attribute.split([':', ' ']).next().unwrap_or_default(),
        None => line.split('=').next().unwrap_or_default(),
    }
}

/// Formats are compared by name: payload types are each leg's own.
fn codec_of<'a>(line: &'a str, all: &[&'a str]) -> Option<String> {
    let (kind, rest) = line.strip_prefix("a=")?.split_once(':')?;
    let (payload_type, format) = rest.split_once(' ')?;
    let name =
        |format: &str| format.split('/').take(2).collect::<Vec<_>>().join("/").to_ascii_lowercase();
    match kind {
        "rtpmap" => Some(name(format)),
        _ => all
            .iter()
            .find_map(|l| {
                l.strip_prefix("a=rtpmap:")?.strip_prefix(payload_type)?.strip_prefix(' ')
            })
            .map(name),
    }
}

/// Digits have a format of their own in every clock rate.
fn is_digits(codec: Option<&String>) -> bool {
    codec.is_some_and(|c| c.starts_with("telephone-event/"))
}

const DIGITS: &str = "digits are heard here and made anew";

/// The rule of a line that was sent; `other`: its source had a line for the same.
fn why_sent(key: &str, other: bool) -> &'static str {
    match (key, other) {
        ("v" | "s" | "t", _) => "as in every description of ours",
        ("o", _) => {
            "each leg is a session of its own, with its own number and version (RFC 3264 section 8)"
        }
        ("c", _) => "our address: media ends here",
        ("m", _) => "our port, this side's profile, and the formats its policy allows in its order",
        ("rtpmap" | "fmtp", true) => {
            "the other side has this format; its payload type is this leg's own"
        }
        ("rtpmap" | "fmtp", false) => {
            "only this side is offered it: what differs is transcoded here"
        }
        ("ptime", _) => "the length asked of this side; packets are cut anew if it differs",
        ("sendrecv" | "sendonly" | "recvonly" | "inactive", true) => "a hold stays on its leg",
        ("sendrecv" | "sendonly" | "recvonly" | "inactive", false) => {
            "both ways, unless somebody holds"
        }
        (
            "ice-lite" | "ice-options" | "ice-ufrag" | "ice-pwd" | "candidate"
            | "end-of-candidates",
            _,
        ) => "ICE ends here: our addresses and credentials",
        ("fingerprint" | "setup", _) => "DTLS ends here: our certificate",
        ("crypto", _) => "SRTP ends here: a key made for this leg (RFC 4568)",
        ("rtcp-mux" | "rtcp", _) => "RTCP ends here: this leg has reports of its own",
        ("rtcp-xr", _) => "our own reports (RFC 3611)",
        ("msid" | "ssrc", _) => "one stream of ours continues whatever happens on the other side",
        ("extmap", _) => {
            "the browser may say how loud it is (RFC 6464); nothing of it is passed on"
        }
        ("mid" | "group", _) => "named as this side's offer names them",
        _ => "written for this side",
    }
}

/// Why a line of the source has no counterpart.
fn why_dropped(key: &str) -> &'static str {
    match key {
        "m" => "only sound is carried, and one stream of it",
        "rtpmap" | "fmtp" => {
            "this format is not in the policy of the other side, or not spoken here"
        }
        "rtcp-fb" | "rtcp-rsize" | "rtcp" | "rtcp-mux" | "rtcp-xr" => "RTCP ends here",
        "extmap" | "extmap-allow-mixed" => "header extensions end here",
        "ssrc" | "ssrc-group" | "msid" | "msid-semantic" => "streams are numbered anew",
        "ice-ufrag" | "ice-pwd" | "ice-options" | "ice-lite" | "candidate"
        | "end-of-candidates" => "ICE ends here",
        "fingerprint" | "setup" | "tls-id" => "DTLS ends here",
        "crypto" => "SRTP ends here: keys go to nobody else",
        "mid" | "group" | "bundle-only" => "bundling is each leg's own",
        "sendrecv" | "sendonly" | "recvonly" | "inactive" => "a hold stays on its leg",
        "ptime" | "maxptime" => "each leg has its own length; packets are cut anew",
        "b" => "bandwidth is each leg's own",
        "s" | "i" | "u" | "e" | "p" => "nothing a person wrote is passed on",
        _ => "not carried across: only what is understood is",
    }
}

/// The rules by which `sent` was made of `source`, both as readable text.
pub(crate) fn rules(source: Option<&str>, sent: &str) -> Vec<LineRule> {
    let theirs: Vec<&str> = source.unwrap_or_default().lines().collect();
    let mut taken = vec![false; theirs.len()];
    let ours: Vec<&str> = sent.lines().collect();
    let mut out = Vec::new();
    for line in &ours {
        let (own, codec) = (key(line), codec_of(line, &ours));
        let same =
            |n: usize| !taken[n] && key(theirs[n]) == own && codec_of(theirs[n], &theirs) == codec;
        let found = (0..theirs.len()).find(|n| same(*n));
        found.iter().for_each(|n| taken[*n] = true);
        let from = found.map(|n| theirs[n]).filter(|from| from != line).map(str::to_owned);
        let why = match source {
            _ if is_digits(codec.as_ref()) => DIGITS,
            _ if own == "fmtp" && line.contains("maxplaybackrate=") => {
                "the other side hears no more than that (RFC 7587), so no more need be sent"
            }
            // A far end of our own, or an offer nobody asked for.
            None if codec.is_some() => "a format this side may speak",
            _ => why_sent(own, found.is_some()),
        };
        out.push(LineRule { line: Some((*line).to_owned()), from, why });
    }
    let left = theirs
        .iter()
        .zip(&taken)
        .filter(|(line, taken)| !**taken && !line.is_empty())
        .map(|(line, _)| *line);
    let why = |line: &str| {
        if is_digits(codec_of(line, &theirs).as_ref()) { DIGITS } else { why_dropped(key(line)) }
    };
    out.extend(left.map(|line| LineRule {
        line: None,
        from: Some(line.to_owned()),
        why: why(line),
    }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_rule_and_every_line_left_out_a_reason() {
        let browser = "v=0\no=- 1 2 IN IP4 127.0.0.1\nc=IN IP4 0.0.0.0\nm=audio 9 UDP/TLS/RTP/SAVPF 111 8\na=rtpmap:111 opus/48000/2\na=fmtp:111 useinbandfec=1\na=rtpmap:8 PCMA/8000\na=fingerprint:sha-256 AA\na=extmap:1 urn:x\na=sendrecv\nm=video 9 x 96";
        let trunk = "v=0\no=- 7 1 IN IP4 192.0.2.1\nc=IN IP4 192.0.2.1\nm=audio 20000 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\na=sendrecv";
        let rules = rules(Some(browser), trunk);
        let of =
            |line: &str| rules.iter().find(|r| r.line.as_deref() == Some(line)).expect("a rule");
        assert_eq!(of("c=IN IP4 192.0.2.1").from.as_deref(), Some("c=IN IP4 0.0.0.0"));
        assert!(
            of("a=rtpmap:0 PCMU/8000").why.contains("transcoded")
                && of("a=rtpmap:8 PCMA/8000").why.contains("the other side has")
        );
        let gone = |line: &str| {
            rules
                .iter()
                .find(|r| r.line.is_none() && r.from.as_deref() == Some(line))
                .expect("a reason")
                .why
        };
        assert!(
            gone("a=fingerprint:sha-256 AA").contains("DTLS")
                && gone("a=extmap:1 urn:x").contains("extensions")
        );
        assert!(
            gone("m=video 9 x 96").contains("sound")
                && gone("a=rtpmap:111 opus/48000/2").contains("policy")
        );
        assert_eq!(rules.iter().filter(|r| r.line.is_some()).count(), trunk.lines().count());
        let asked = "a=rtpmap:111 opus/48000/2\na=fmtp:111 useinbandfec=1;maxplaybackrate=8000";
        assert!(super::rules(Some(trunk), asked)[1].why.contains("hears no more"));
        assert_eq!(
            super::rules(None, trunk).len(),
            trunk.lines().count(),
            "our own offer has no source"
        );
    }
}
