"""The words SIPp scenarios are written in: each is a piece of SIPp's XML.

A caller's script speaks for a trunk that calls us; a callee's for one we call. `[$peer]`, `[$self]`
and `[$contact]` are what a callee took from the INVITE.
"""

SDP = """v=0
o=sipp 1 {version} IN IP[media_ip_type] [media_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
"""


def sdp(version=1, more=""):
    return SDP.format(version=version) + more


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def send(start, headers, body="", kind="application/sdp", retrans=None):
    """One message; `headers` are lines."""
    lines = [start, *[h for h in headers if h]]
    if body:
        lines += [f"Content-Type: {kind}"]
    lines += ["Content-Length: [len]", ""]
    text = "\n".join(lines) + "\n" + body
    attribute = f' retrans="{retrans}"' if retrans else ""
    return f"<send{attribute}><![CDATA[\n{text}\n]]></send>"


def checks(found):
    """Checks of a received message: (header, "body" or "not body", regexp[, variable])."""
    out = ""
    for check in found:
        where, pattern, *variable = check
        place = f'search_in="hdr" header="{where}:"'
        if where in ("body", "not body"):
            place = 'search_in="body"'
        name = variable[0] if variable else "seen"
        must = "" if variable and pattern == ".*" else ' check_it="true"'
        if where == "not body":
            must = ' check_it_inverse="true"'
        out += f'<ereg regexp="{escape(pattern)}" {place}{must} assign_to="{name}"/>'
    return f"<action>{out}</action>" if out else ""


def response(status, *found, optional=False, rrs=None, timeout=None):
    """Waits for a response."""
    rrs = status >= 180 and status < 300 if rrs is None else rrs
    extra = ' optional="true"' if optional else ""
    extra += ' rrs="true"' if rrs else ""
    extra += f' timeout="{timeout}"' if timeout else ""
    return f'<recv response="{status}"{extra}>{checks(found)}</recv>'


def request(method, *found, optional=False):
    """Waits for a request."""
    extra = ' optional="true"' if optional else ""
    return f'<recv request="{method}" crlf="true"{extra}>{checks(found)}</recv>'


def pause(ms):
    return f'<pause milliseconds="{ms}"/>'


def speak():
    """Sends the suite's tone until the call is over; its SDP names [rtpstream_audio_port]."""
    return '<nop><action><exec rtp_stream="tone.ul,-1,0"/></action></nop>'


def silence(ms):
    """Nothing may come for so long: whatever comes is unexpected and fails the call."""
    return pause(ms)


# ---- a caller

TO = "sip:[service]@[remote_ip]"


def caller_head(
    method,
    cseq,
    to_tag=True,
    via="Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
):
    tag = "[peer_tag_param]" if to_tag else ""
    return [
        via,
        "Max-Forwards: 70",
        'From: "Anna" <sip:+4930123@[local_ip]>;tag=c[call_number]',
        f"To: <{TO}>{tag}",
        "Call-ID: [call_id]",
        f"CSeq: {cseq} {method}",
    ]


CONTACT = "Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>"


def invite(*more, body=None, cseq=1, uri=TO, retrans=500, head=None):
    body = sdp() if body is None else body
    return send(
        f"INVITE {uri} SIP/2.0",
        (head or caller_head("INVITE", cseq, to_tag=False)) + [CONTACT, *more],
        body,
        retrans=retrans,
    )


def inside(method, cseq, *more, body="", kind="application/sdp", retrans=500):
    """A request of the caller within its dialog."""
    return send(
        f"{method} [next_url] SIP/2.0",
        caller_head(method, cseq) + ["[routes]", CONTACT, *more],
        body,
        kind,
        retrans,
    )


def ack(cseq=1, body=""):
    return send("ACK [next_url] SIP/2.0", caller_head("ACK", cseq) + ["[routes]"], body)


def ack_refusal(cseq=1):
    """The ACK for a refusal belongs to the INVITE's transaction (RFC 3261 section 17.1.1.3)."""
    return send(f"ACK {TO} SIP/2.0", caller_head("ACK", cseq, via="[last_Via:]"))


def cancel(cseq=1):
    return send(
        f"CANCEL {TO} SIP/2.0", caller_head("CANCEL", cseq, to_tag=False, via="[last_Via:]")
    )


def outside(method, *more, uri=TO, cseq=1, body="", kind="application/sdp", head=None):
    return send(
        f"{method} {uri} SIP/2.0",
        (head or caller_head(method, cseq, to_tag=False)) + [CONTACT, *more],
        body,
        kind,
        retrans=500,
    )


def refused(status, *found, trying=True):
    """A call that ends with this refusal."""
    return [
        response(100, optional=True),
        response(180, optional=True),
        response(status, *found, rrs=False),
        ack_refusal(),
    ]


def answered(*found, cseq=1):
    """Ringing or not, the call is answered and acknowledged."""
    return [
        response(100, optional=True),
        response(180, optional=True),
        response(183, optional=True),
        response(200, *found),
        ack(cseq),
    ]


def hang_up(cseq=2):
    return [inside("BYE", cseq), response(200, rrs=False)]


# ---- a callee

TAKE = [("Contact", "sip:[^>;]*", "contact"), ("From", ".*", "peer"), ("To", ".*", "self")]


def ringing(*found):
    """The INVITE."""
    return request("INVITE", *TAKE, *found)


def reply(
    status, *more, body="", tag="s[call_number]", retrans=None, phrase="X", kind="application/sdp"
):
    """A response of the callee to the last request."""
    tagged = f";tag={tag}" if tag else ""
    contact = "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>"
    return send(
        f"SIP/2.0 {status} {phrase}",
        [
            "[last_Via:]",
            "[last_From:]",
            f"[last_To:]{tagged}",
            "[last_Call-ID:]",
            "[last_CSeq:]",
            contact,
            *more,
        ],
        body,
        kind,
        retrans,
    )


def reply_to_invite(status, *more, body="", tag="s[call_number]", retrans=None):
    """A response to the INVITE after other requests have come: its own headers were kept."""
    contact = "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>"
    return send(
        f"SIP/2.0 {status} X",
        [
            "Via:[$via]",
            "From:[$peer]",
            f"To:[$self];tag={tag}",
            "[last_Call-ID:]",
            "CSeq:[$cseq]",
            contact,
            *more,
        ],
        body,
        retrans=retrans,
    )


KEEP = [("Via", ".*", "via"), ("CSeq", ".*", "cseq")]


def ok(*more):
    """200 to a request within the dialog."""
    return reply(200, *more, tag="")


def answer(*more, body=None, tag="s[call_number]"):
    return reply(200, *more, body=sdp() if body is None else body, tag=tag, retrans=500)


def callee_inside(
    method, cseq, *more, body="", kind="application/sdp", tag="s[call_number]", retrans=500
):
    """A request of the callee within its dialog."""
    contact = "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>"
    head = [
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
        "Max-Forwards: 70",
        f"From:[$self];tag={tag}",
        "To:[$peer]",
        "[last_Call-ID:]",
        f"CSeq: {cseq} {method}",
        contact,
    ]
    return send(f"{method} [$contact] SIP/2.0", head + list(more), body, kind, retrans)


def callee_ack(cseq, tag="s[call_number]", body=""):
    head = [
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
        "Max-Forwards: 70",
        f"From:[$self];tag={tag}",
        "To:[$peer]",
        "[last_Call-ID:]",
        f"CSeq: {cseq} ACK",
    ]
    return send("ACK [$contact] SIP/2.0", head, body)


def takes_call(*more):
    """Rings, answers, is acknowledged."""
    return [ringing(), reply(180), answer(*more), request("ACK")]


def takes_bye():
    return [request("BYE"), ok()]


def scenario(name, steps):
    variables = sorted(
        {
            v
            for v in ("seen", "contact", "peer", "self", "via", "cseq", "rseq", "a", "b")
            if f'assign_to="{v}"' in "".join(steps)
        }
    )
    used = f'<Reference variables="{",".join(variables)}"/>' if variables else ""
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
        f'<scenario name="{name}">\n' + "\n".join(steps) + f"\n{used}\n</scenario>\n"
    )
