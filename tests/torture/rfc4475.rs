//! RFC 4475, in the order of its sections.

use super::Case;
use super::Verdict::*;
use super::crlf;

/// A plain INVITE head that single defects are put into.
fn invite(change: impl Fn(String) -> String) -> Vec<u8> {
    let text = "INVITE sip:user@example.com SIP/2.0\n\
        To: <sip:user@example.com>\n\
        From: <sip:caller@example.org>;tag=242etr\n\
        Max-Forwards: 70\n\
        Call-ID: case.0ha0isndaksdj\n\
        CSeq: 8 INVITE\n\
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw\n\
        Contact: <sip:caller@host5.example.org>\n\
        Content-Length: 0\n\n";
    crlf(&change(text.to_owned()))
}

/// The plain INVITE with `to` where `from` stood.
fn change(from: &str, to: &str) -> Vec<u8> {
    invite(|t| t.replace(from, to))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = valid();
    all.extend(broken_lines());
    all.extend(odd_headers());
    all.extend(contradictions());
    all.extend(unknown_words());
    all.extend(repeated_headers());
    all.extend(odd_contacts());
    all
}

fn valid() -> Vec<Case> {
    let long = "very".repeat(60);
    vec![
        Case("3.1.1.1 wsinv", crlf("INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\nTO :\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\n\
            from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\nMaX-fOrWaRdS: 0068\nCall-ID: wsinv.ndaksdj@192.0.2.1\nContent-Length   : 0\n\
            cseq: 0009\n  INVITE\nVia  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\ns :\nNewFangledHeader:   newfangled value\n continued newfangled value\n\
            UnknownHeaderWithUnusualValue: ;;,,;;,;\nRoute:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n\
            v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n\
            m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n\n"),
            Sound, "white space and folding wherever the grammar lets them stand"),
        Case("3.1.1.2 intmeth", crlf("!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0\n\
            Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\n\
            To: \"BEL:\\\u{7} NUL:\\\u{0} DEL:\\\u{7f}\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\n")
            .into_iter().chain(crlf("From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.\n\
            Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\nCSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\nMax-Forwards: 255\n\
            extensionHeader-!.%*+_`'~: 大停電\nContent-Length: 0\n\n")).collect(),
            Sound, "every character the grammar allows; the control characters of the display name are read as question marks, for no control is passed on (P6)"),
        Case("3.1.1.3 esc01", invite(|t| t.replace("INVITE sip:user@example.com", "INVITE sip:sips%3Auser%40example.com@example.net").replace("To: <sip:user@example.com>", "To: sip:%75se%72@example.com")),
            Sound, "escapes in the user part are kept, not resolved before routing"),
        Case("3.1.1.4 escnull", crlf("REGISTER sip:example.com SIP/2.0\nTo: sip:null-%00-null@example.com\nFrom: sip:null-%00-null@example.com;tag=839923423\nMax-Forwards: 70\n\
            Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd\nCSeq: 14398234 REGISTER\nVia: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw\n\
            Contact: <sip:%00@host5.example.com>\nContact: <sip:%00%00@host5.example.com>\nL:0\n\n"),
            Sound, "an escaped NUL is legal in a URI"),
        Case("3.1.1.5 esc02", crlf("RE%47IST%45R sip:registrar.example.com SIP/2.0\nTo: \"%Z%45\" <sip:resource@example.com>\nFrom: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23\n\
            Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf\nVia: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234\nCSeq: 29344 RE%47IST%45R\nMax-Forwards: 70\n\
            Contact: <sip:alias1@host1.example.com>\nC%6Fntact: <sip:alias2@host2.example.com>\nContact: <sip:alias3@host3.example.com>\nl: 0\n\n"),
            Sound, "% is a token character, not an escape, outside URIs"),
        Case("3.1.1.6 lwsdisp", invite(|t| t.replace("From: <sip:caller@example.org>", "From: caller<sip:caller@example.com>")), Sound, "no white space before < is legal"),
        Case("3.1.1.7 longreq", invite(|t| t.replace("From: <sip:caller", &format!("Unknown-{}: {}\nFrom: <sip:{long}caller", long, "long value ".repeat(120)))), Sound, "long values within our limits"),
        Case("3.1.1.8 dblreq", invite(|t| format!("{t}INVITE sip:joe@example.com SIP/2.0\nTo: <sip:joe@example.com>\n\n")), Sound, "what follows the body in a datagram is ignored"),
        Case("3.1.1.9 semiuri", invite(|t| t.replace("INVITE sip:user@", "INVITE sip:user;par=u%40example.net@")), Sound, "; stands in the user part"),
        Case("3.1.1.10 transports", invite(|t| t.replace("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw", "Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw\n\
            Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf\nVia: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj\nVia: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en\nVia: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee")),
            Sound, "any transport name"),
        Case("3.1.1.11 mpart01", {
            let mut bytes = invite(|t| t.replace("INVITE", "MESSAGE").replace("Content-Length: 0", "Content-Type: multipart/mixed;boundary=7a9cbec02ceef655\nContent-Length: 12"));
            bytes.extend([0x2d, 0x2d, 0x00, 0xff, 0x80, 0x0d, 0x0a, 0x0d, 0x0a, 1, 2, 3]);
            bytes
        }, Sound, "a binary body is bytes"),
        Case("3.1.1.12 unreason", response("SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое"), Sound, "a reason phrase in UTF-8"),
        Case("3.1.1.13 noreason", response("SIP/2.0 100 "), Sound, "an empty reason phrase"),
    ]
}

fn response(line: &str) -> Vec<u8> {
    crlf(&format!(
        "{line}\nVia: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\nCall-ID: unreason.1234ksdfak3j2erwedfsASdf\nCSeq: 35 INVITE\n\
        From: sip:user@example.com;tag=11141343\nTo: sip:user@example.edu;tag=2229\nContent-Length: 0\nContact: <sip:user@host198.example.com>\n\n"
    ))
}

/// Section 3.1.2 as far as its start lines.
fn broken_lines() -> Vec<Case> {
    vec![
        Case(
            "3.1.2.1 badinv01",
            change(
                "Contact: <sip:caller@host5.example.org>",
                "Contact: \"Joe\" <sip:joe@example.org>;;;;",
            ),
            Sound,
            "semicolons without parameters: the RFC has it refused, but nothing that is needed stands in them",
        ),
        Case(
            "3.1.2.2 clerr",
            change("Content-Length: 0", "Content-Length: 9999"),
            Refused(400),
            "Content-Length beyond the datagram",
        ),
        Case(
            "3.1.2.3 ncl",
            change("Content-Length: 0", "Content-Length: -999"),
            Refused(400),
            "negative Content-Length",
        ),
        Case(
            "3.1.2.4 scalar02",
            change("CSeq: 8 INVITE", "CSeq: 36893488147419103232 INVITE"),
            Refused(400),
            "CSeq beyond 2^31",
        ),
        Case(
            "3.1.2.5 scalarlg",
            response("SIP/2.0 503 Service Unavailable")
                .split(|b| *b == b'\n')
                .flat_map(|l| {
                    let l = if l.starts_with(b"CSeq") {
                        b"CSeq: 9292394834772304023312 OPTIONS\r".to_vec()
                    } else {
                        l.to_vec()
                    };
                    [l, b"\n".to_vec()].concat()
                })
                .collect(),
            Dropped,
            "a response with a CSeq beyond 2^31 matches nothing",
        ),
        Case(
            "3.1.2.6 quotbal",
            change("To: <sip:user@example.com>", "To: \"Mr. J. User <sip:j.user@example.com>"),
            Sound,
            "a quote that does not end: the address in brackets counts, as the RFC lets us infer",
        ),
        Case(
            "3.1.2.7 ltgtruri",
            change("INVITE sip:user@example.com SIP", "INVITE <sip:user@example.com> SIP"),
            Refused(400),
            "angle brackets round the Request-URI",
        ),
        Case(
            "3.1.2.8 lwsruri",
            change("INVITE sip:user@example.com SIP", "INVITE sip:user@example.com; lr SIP"),
            Refused(400),
            "white space within the Request-URI",
        ),
    ]
}

/// Section 3.1.2, headers and URIs the grammar does not have.
fn odd_headers() -> Vec<Case> {
    vec![
        Case(
            "3.1.2.9 lwsstart",
            change("INVITE sip:user@example.com SIP", "INVITE  sip:user@example.com  SIP"),
            Refused(400),
            "two spaces in the start line",
        ),
        Case(
            "3.1.2.10 trws",
            change("SIP/2.0\nTo", "SIP/2.0 \nTo"),
            Refused(400),
            "white space after the version",
        ),
        Case(
            "3.1.2.11 escruri",
            change(
                "INVITE sip:user@example.com SIP",
                "INVITE sip:user@example.com?Route=%3Csip:sip.example.com%3E SIP",
            ),
            Sound,
            "escaped headers in a Request-URI: the RFC lets an element be liberal; we read them and never use them",
        ),
        Case(
            "3.1.2.12 baddate",
            change("Max-Forwards: 70", "Max-Forwards: 70\nDate: Fri, 01 Jan 2010 16:00:00 EST"),
            Sound,
            "a Date that is not GMT: the RFC lets who does not use it ignore it",
        ),
        Case(
            "3.1.2.13 regbadct",
            crlf(
                "REGISTER sip:example.com SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@example.com;tag=998332\nMax-Forwards: 70\nCall-ID: regbadct.k345asrl3fdbv@10.0.0.1\n\
            CSeq: 1 REGISTER\nVia: SIP/2.0/UDP 135.180.130.133:5060;branch=z9hG4bKkdjuw\nContact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\nl: 0\n\n",
            ),
            Refused(400),
            "a Contact with ? and no angle brackets",
        ),
        Case(
            "3.1.2.14 badaspec",
            change(
                "To: <sip:user@example.com>",
                "To: \"Watson, Thomas\" < sip:t.watson@example.org >",
            ),
            Sound,
            "spaces within the brackets: the RFC lets an element ignore them",
        ),
        Case(
            "3.1.2.15 baddn",
            change(
                "From: <sip:caller@example.org>",
                "From: Bell, Alexander <sip:a.g.bell@example.com>",
            ),
            Sound,
            "a comma in an unquoted display name: the RFC lets an element infer the quotes",
        ),
    ]
}

/// The rest of section 3.1.2: values that are impossible or contradict one another.
fn contradictions() -> Vec<Case> {
    vec![
        Case(
            "3.1.2.16 badvers",
            change("SIP/2.0\nTo", "SIP/7.0\nTo"),
            Refused(505),
            "a version we do not speak",
        ),
        Case(
            "3.1.2.17 mismatch01",
            change("CSeq: 8 INVITE", "CSeq: 8 OPTIONS"),
            Refused(400),
            "CSeq names another method",
        ),
        Case(
            "3.1.2.18 mismatch02",
            change("INVITE sip", "NEWMETHOD sip"),
            Refused(400),
            "CSeq names another method, unknown method",
        ),
        Case(
            "3.1.2.19 bigcode",
            response("SIP/2.0 4294967301 better not break the receiver"),
            Dropped,
            "a status code beyond 699",
        ),
    ]
}

/// Sections 3.2 and 3.3 as far as words nobody knows.
fn unknown_words() -> Vec<Case> {
    vec![
        Case(
            "3.2.1 badbranch",
            change("branch=z9hG4bKkdjuw", "branch=z9hG4bK"),
            Sound,
            "the cookie alone: matched by the rules of RFC 2543",
        ),
        Case(
            "3.3.1 insuf",
            crlf(
                "INVITE sip:user@example.com SIP/2.0\nCSeq: 193942 INVITE\nVia: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf\nContent-Type: application/sdp\nl: 0\n\n",
            ),
            Refused(400),
            "no From, To, Call-ID",
        ),
        Case(
            "3.3.2 unkscm",
            change(
                "INVITE sip:user@example.com SIP",
                "INVITE nobodyKnowsThisScheme:totallyopaquecontent SIP",
            ),
            Sound,
            "an unknown scheme is 416, not 400: routing refuses it",
        ),
        Case(
            "3.3.3 novelsc",
            change("INVITE sip:user@example.com SIP", "INVITE soap.beep://192.0.2.103:3002 SIP"),
            Sound,
            "a known scheme that is not SIP: 416 by routing",
        ),
        Case(
            "3.3.4 unksm2",
            change("To: <sip:user@example.com>", "To: isbn:2983792873"),
            Sound,
            "unknown schemes in To and From are legal",
        ),
        Case(
            "3.3.5 bext01",
            change(
                "Max-Forwards: 70",
                "Max-Forwards: 70\nRequire: nothingSupportsThis, nothingSupportsThisEither\nProxy-Require: noProxiesSupportThis",
            ),
            Sound,
            "420 by the transaction user",
        ),
        Case(
            "3.3.6 invut",
            change(
                "Content-Length: 0",
                "Content-Type: application/unknownformat\nContent-Length: 0",
            ),
            Sound,
            "415 by the call, where there is a body",
        ),
        Case(
            "3.3.7 regaut01",
            change(
                "Max-Forwards: 70",
                "Max-Forwards: 70\nAuthorization: NoOneKnowsThisScheme opaque-data=here",
            ),
            Sound,
            "an unknown scheme counts as no credentials",
        ),
    ]
}

/// Section 3.3, headers given twice and values that lead nowhere.
fn repeated_headers() -> Vec<Case> {
    vec![
        Case(
            "3.3.8 multi01",
            change("CSeq: 8 INVITE", "CSeq: 8 INVITE\nCSeq: 59 INVITE\nTo: sip:other@example.com"),
            Refused(400),
            "two CSeqs, two Tos",
        ),
        Case(
            "3.3.9 mcl01",
            change("Content-Length: 0", "Content-Length: 13\nContent-Length: 5"),
            Refused(400),
            "two lengths that disagree",
        ),
        Case(
            "3.3.10 bcast",
            response("SIP/2.0 200 OK")
                .split(|b| *b == b'\n')
                .flat_map(|l| {
                    let l = if l.starts_with(b"Via") {
                        b"Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\r".to_vec()
                    } else {
                        l.to_vec()
                    };
                    [l, b"\n".to_vec()].concat()
                })
                .collect(),
            Sound,
            "a broadcast Via: we match responses by branch and never send to a Via's host",
        ),
        Case(
            "3.3.11 zeromf",
            change("Max-Forwards: 70", "Max-Forwards: 0"),
            Sound,
            "483 by routing",
        ),
    ]
}

/// The rest of section 3.3, and section 3.4.
fn odd_contacts() -> Vec<Case> {
    let register = |contact: &str| {
        crlf(&format!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP saturn.example.com:5060;branch=z9hG4bKkdjuw\nMax-Forwards: 70\nFrom: sip:watson@example.com;tag=DkfVgjkrtMwaerKKpe\n\
            To: sip:watson@example.com\nCall-ID: cparam.70710@saturn.example.com\nCSeq: 2 REGISTER\nContact: {contact}\nl: 0\n\n"
        ))
    };
    vec![
        Case(
            "3.3.12 cparam01",
            register("sip:+19725552222@gw1.example.net;unknownparam"),
            Sound,
            "an unknown parameter is the header's",
        ),
        Case(
            "3.3.13 cparam02",
            register("<sip:+19725552222@gw1.example.net;unknownparam>"),
            Sound,
            "an unknown parameter is the URI's",
        ),
        Case(
            "3.3.14 regescrt",
            register("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"),
            Sound,
            "escaped headers in a Contact: kept, never used",
        ),
        Case(
            "3.3.15 sdp01",
            change("Max-Forwards: 70", "Max-Forwards: 70\nAccept: text/nobodyKnowsThis"),
            Sound,
            "406 is for those who must; our responses carry what was offered",
        ),
        Case(
            "3.4.1 inv2543",
            crlf(
                "INVITE sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP iftgw.example.com\nFrom: <sip:+13035551111@ift.client.example.net;user=phone>\nRecord-Route: <sip:UserB@example.com;maddr=ss1.example.com>\n\
            To: sip:+16505552222@ss1.example.net;user=phone\nCall-ID: inv2543.1717@ift.client.example.com\nCSeq: 56 INVITE\nContent-Type: application/sdp\n\nv=0\n",
            ),
            Sound,
            "an RFC 2543 request: no branch, no Max-Forwards, no tag",
        ),
    ]
}
