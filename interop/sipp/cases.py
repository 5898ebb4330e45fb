"""Every SIPp case: a behaviour by name, what the caller does, what the callee does.

`to` is what the caller dials: "callee" (the case's own SIPp), "echo" (a far end of webtrunk's
own), or a number. `udp_only` and `tcp_only` say why. `seen` is (side, text, least times it came
in): SIPp hides what is repeated. `heard` is the least number of packets that must have come from
the callee. `record` is the status and who hung up, or several of whom one may have. `slow` cases
run in `make test-all`.
"""

from words import *

SE = "Supported: timer"
# No media flows in these cases, and none is missed on hold.
HELD = sdp(1, "a=inactive\n")
RELIABLE = ["Require: 100rel", "RSeq: 1"]
DIGEST = 'WWW-Authenticate: Digest realm="carrier", nonce="n{n}", algorithm=MD5, qop="auth"'

CASES = {}


def case(
    name,
    caller,
    callee=None,
    to=None,
    calls=1,
    route="",
    trunk="",
    from_trunk="",
    udp_only="",
    tcp_only="",
    slow=False,
    record=None,
    seen=None,
    heard=None,
    args=(),
    callee_args=(),
):
    assert name not in CASES, name
    CASES[name] = dict(
        name=name,
        caller=caller,
        callee=callee,
        to=to or ("callee" if callee else "echo"),
        calls=calls,
        route=route,
        trunk=trunk,
        from_trunk=from_trunk,
        udp_only=udp_only,
        tcp_only=tcp_only,
        slow=slow,
        record=record,
        seen=seen,
        heard=heard,
        args=list(args),
        callee_args=list(callee_args),
    )


# ---- calls and their ends
case(
    "bye-crossing-bye",
    [invite(), *answered(), pause(200), *hang_up()],
    [
        *takes_call(),
        request("BYE", *KEEP),
        pause(100),
        callee_inside("BYE", 2, retrans=None),
        response(481),
        reply_to_invite(200),
    ],
    udp_only="one connection orders what crosses",
)
case(
    "call-answered-caller-hangs-up",
    [invite(), *answered(), pause(200), *hang_up()],
    [*takes_call(), *takes_bye()],
    record=(200, "caller"),
)
case(
    "call-answered-callee-hangs-up",
    [invite(), *answered(), request("BYE"), ok()],
    [*takes_call(), pause(200), callee_inside("BYE", 2), response(200)],
    record=(200, "callee"),
)
case(
    "busy-486",
    [invite(), *refused(486)],
    [ringing(), reply(486), request("ACK")],
    record=(486, "callee"),
)
case(
    "declined-603",
    [invite(), *refused(603)],
    [ringing(), reply(180), reply(603), request("ACK")],
    record=(603, "callee"),
)
case("not-found-404", [invite(), *refused(404)], [ringing(), reply(404), request("ACK")])
case(
    "no-answer-is-cancelled-and-480",
    [invite(), response(100), response(180), response(480), ack_refusal()],
    [ringing(*KEEP), reply(180), request("CANCEL"), ok(), reply_to_invite(487), request("ACK")],
    route='timeout = "1s"',
    record=(480, "webtrunk"),
)
case(
    "cancel-while-ringing",
    [
        invite(),
        response(100),
        response(180),
        cancel(),
        response(200, rrs=False),
        response(487),
        ack_refusal(),
    ],
    [ringing(*KEEP), reply(180), request("CANCEL"), ok(), reply_to_invite(487), request("ACK")],
    record=(487, "caller"),
)
case(
    "cancel-waits-for-a-provisional-response",
    [
        invite(),
        response(100),
        pause(100),
        cancel(),
        response(200, rrs=False),
        response(487),
        ack_refusal(),
    ],
    [
        ringing(*KEEP),
        pause(300),
        reply(180),
        request("CANCEL"),
        ok(),
        reply_to_invite(487),
        request("ACK"),
    ],
)
case(
    "cancel-crosses-the-200",
    [
        invite(),
        response(100),
        response(180),
        cancel(),
        response(200, rrs=False),
        response(487),
        ack_refusal(),
    ],
    [
        ringing(*KEEP),
        reply(180),
        request("CANCEL"),
        ok(),
        reply_to_invite(200, body=sdp()),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "cancel-after-the-200-changes-nothing",
    [
        invite(),
        response(100, optional=True),
        response(180, optional=True),
        response(200),
        send(f"CANCEL {TO} SIP/2.0", caller_head("CANCEL", 1, to_tag=False, via="[last_Via:]")),
        response(200, rrs=False),
        ack(),
        pause(300),
        *hang_up(),
    ],
    [*takes_call(), *takes_bye()],
    record=(200, "caller"),
)
case(
    "the-200-is-repeated-until-its-ack",
    [
        invite(),
        response(100, optional=True),
        response(180, optional=True),
        response(200),
        pause(2000),
        ack(),
        pause(300),
        *hang_up(),
    ],
    [*takes_call(), *takes_bye()],
    udp_only="seen by what SIPp counts as repeated",
    seen=("caller", "SIP/2.0 200 OK", 4),
)
case(
    "a-repeated-200-gets-its-ack-again",
    [invite(), *answered(), pause(1000), *hang_up()],
    [
        ringing(*KEEP),
        reply(180),
        reply_to_invite(200, body=sdp()),
        request("ACK"),
        reply_to_invite(200, body=sdp()),
        pause(300),
        *takes_bye(),
    ],
    udp_only="a connection does not lose",
    seen=("callee", "ACK sip:callee", 2),
)
case(
    "a-refusal-is-repeated-until-its-ack",
    [invite(), response(100, optional=True), response(404, rrs=False), pause(2000), ack_refusal()],
    to="nowhere",
    udp_only="a connection does not lose",
    seen=("caller", "SIP/2.0 404", 3),
)
case(
    "a-200-nobody-acknowledges-ends-in-bye",
    [invite(body=HELD), response(100, optional=True), response(200), request("BYE"), ok()],
    udp_only="a silent peer over UDP",
    seen=("caller", "SIP/2.0 200 OK", 10),
    slow=True,
    record=(200, "webtrunk"),
)
case(
    "an-invite-sent-twice-is-one-call",
    [
        invite(retrans=500),
        response(100),
        response(100, optional=True),
        response(180),
        response(200),
        ack(),
        *hang_up(),
    ],
    [ringing(), pause(700), reply(180), answer(), request("ACK"), *takes_bye()],
    udp_only="a connection does not lose",
)
case(
    "early-media-183",
    [invite(), response(100), response(183, ("body", "m=audio")), response(200), ack(), *hang_up()],
    [ringing(), reply(183, body=sdp()), pause(200), answer(), request("ACK"), *takes_bye()],
)
case(
    "built-in-echo-answers-at-once",
    [invite(), response(100), response(200, ("body", "a=rtpmap:0 PCMU")), ack(), *hang_up()],
    record=(200, "caller"),
)

# ---- reliable provisional responses (RFC 3262)
case(
    "prack-for-a-reliable-183",
    [invite(), response(100), response(183), response(200), ack(), *hang_up()],
    [
        ringing(*KEEP),
        reply(183, *RELIABLE, body=sdp()),
        request("PRACK", ("RAck", "1 [0-9]+ INVITE")),
        ok(),
        reply_to_invite(200, retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "prack-in-order-for-two",
    [invite(), response(100), response(180), response(183), response(200), ack(), *hang_up()],
    [
        ringing(*KEEP),
        reply(180, *RELIABLE),
        request("PRACK", ("RAck", "1 [0-9]+ INVITE")),
        ok(),
        reply_to_invite(183, "Require: 100rel", "RSeq: 2", body=sdp()),
        request("PRACK", ("RAck", "2 [0-9]+ INVITE")),
        ok(),
        reply_to_invite(200, retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
RSEQ = ("RSeq", "[0-9]+", "rseq")
case(
    "prack-of-a-caller-that-requires-it",
    [
        invite("Require: 100rel"),
        response(100),
        response(180, ("Require", "100rel"), RSEQ),
        inside("PRACK", 2, "RAck: [$rseq] 1 INVITE"),
        response(200, ("CSeq", "PRACK"), rrs=False),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [ringing(), reply(180), pause(300), answer(), request("ACK"), *takes_bye()],
)
case(
    "prack-that-names-nothing-is-481",
    [
        invite("Require: 100rel"),
        response(100),
        response(180, RSEQ),
        inside("PRACK", 2, "RAck: 99 1 INVITE"),
        response(481, rrs=False),
        inside("PRACK", 3, "RAck: [$rseq] 1 INVITE"),
        response(200, rrs=False),
        response(200),
        ack(),
        *hang_up(4),
    ],
    [ringing(), reply(180), pause(500), answer(), request("ACK"), *takes_bye()],
)
case(
    "a-reliable-response-is-repeated-until-its-prack",
    [
        invite("Require: 100rel"),
        response(100),
        response(180, RSEQ),
        pause(2000),
        inside("PRACK", 2, "RAck: [$rseq] 1 INVITE"),
        response(200, rrs=False),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [ringing(), reply(180), pause(3000), answer(), request("ACK"), *takes_bye()],
    udp_only="seen by what SIPp counts as repeated",
    seen=("caller", "SIP/2.0 180", 3),
)
case(
    "the-200-waits-for-the-prack-of-an-answer",
    [
        invite("Require: 100rel"),
        response(100),
        response(183, RSEQ, ("body", "m=audio")),
        pause(300),
        inside("PRACK", 2, "RAck: [$rseq] 1 INVITE"),
        response(200, ("CSeq", "PRACK"), rrs=False),
        response(200, ("CSeq", "INVITE")),
        ack(),
        *hang_up(3),
    ],
    # Once its own 183 was acknowledged, which is before the caller's is.
    [
        ringing(*KEEP),
        reply(183, *RELIABLE, body=sdp()),
        request("PRACK"),
        ok(),
        reply_to_invite(200, retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "reliable-on-both-legs",
    [
        invite("Require: 100rel"),
        response(100),
        response(183, RSEQ),
        inside("PRACK", 2, "RAck: [$rseq] 1 INVITE"),
        response(200, rrs=False),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [
        ringing(*KEEP),
        reply(183, *RELIABLE, body=sdp()),
        request("PRACK"),
        ok(),
        pause(300),
        reply_to_invite(200, retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "a-trunk-made-to-be-reliable-is-told-so",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Require", "100rel"), *KEEP),
        reply(180, *RELIABLE),
        request("PRACK"),
        ok(),
        reply_to_invite(200, body=sdp(), retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
    trunk='100rel = "required"',
)

# ---- offers late and early (RFC 3261, RFC 6337)
LATE = send(
    "INVITE " + TO + " SIP/2.0", caller_head("INVITE", 1, to_tag=False) + [CONTACT], retrans=500
)
case(
    "a-caller-without-an-offer-answers-in-the-ack",
    [
        LATE,
        response(100),
        response(180, optional=True),
        response(200, ("body", "m=audio")),
        ack(body=sdp()),
        pause(200),
        *hang_up(),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "a-late-answer-that-is-missing-ends-the-call",
    [LATE, response(100), response(180, optional=True), response(200), ack(), request("BYE"), ok()],
    [*takes_call(), *takes_bye()],
)
case(
    "an-offer-in-the-183-and-the-answer-in-the-prack",
    [
        send(
            "INVITE " + TO + " SIP/2.0",
            caller_head("INVITE", 1, to_tag=False) + [CONTACT, "Supported: 100rel"],
            retrans=500,
        ),
        response(100),
        response(183, RSEQ, ("body", "m=audio")),
        inside("PRACK", 2, "RAck: [$rseq] 1 INVITE", body=sdp()),
        response(200, rrs=False),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [ringing(), reply(183, body=sdp()), pause(400), answer(), request("ACK"), *takes_bye()],
)
case(
    "a-trunk-of-delayed-offers-gets-the-answer-in-the-ack",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Content-Length", "^ *0")),
        reply(180),
        answer(),
        request("ACK", ("body", "m=audio")),
        *takes_bye(),
    ],
    trunk="delayed_offer = true",
)

# ---- renegotiation
case(
    "hold-and-resume-by-the-caller",
    [
        invite(),
        *answered(),
        inside("INVITE", 2, body=sdp(2, "a=sendonly\n")),
        response(100, optional=True),
        response(200, ("body", "a=recvonly")),
        ack(2),
        pause(100),
        inside("INVITE", 3, body=sdp(3, "a=sendrecv\n")),
        response(100, optional=True),
        response(200, ("body", "a=sendrecv")),
        ack(3),
        *hang_up(4),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "hold-by-the-callee",
    [invite(), *answered(), request("BYE"), ok()],
    [
        *takes_call(),
        callee_inside("INVITE", 2, body=sdp(2, "a=inactive\n")),
        response(100, optional=True),
        response(200, ("body", "a=inactive")),
        callee_ack(2),
        callee_inside("BYE", 3),
        response(200),
    ],
)
case(
    "a-reinvite-without-an-offer-gets-ours",
    [
        invite(),
        *answered(),
        send(
            "INVITE [next_url] SIP/2.0",
            caller_head("INVITE", 2) + ["[routes]", CONTACT],
            retrans=500,
        ),
        response(100, optional=True),
        response(200, ("body", "m=audio")),
        ack(2, body=sdp(2)),
        pause(100),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "a-reinvite-we-cannot-use-is-488-and-the-call-goes-on",
    [
        invite(),
        *answered(),
        inside(
            "INVITE",
            2,
            body=sdp(2)
            .replace("RTP/AVP 0 101", "RTP/AVP 18")
            .replace("rtpmap:0 PCMU", "rtpmap:18 G729"),
        ),
        response(100, optional=True),
        response(488, rrs=False),
        send("ACK [next_url] SIP/2.0", caller_head("ACK", 2, via="[last_Via:]")),
        pause(100),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "a-reinvite-that-overtakes-the-ack-is-answered",
    [
        invite(),
        response(100, optional=True),
        response(200),
        inside("INVITE", 2, body=sdp(2)),
        response(100, optional=True),
        response(200, ("CSeq", "2 INVITE")),
        ack(2),
        ack(),
        *hang_up(3),
    ],
)
case(
    "a-reinvite-before-the-answer-in-the-ack-is-500",
    [
        LATE,
        response(100, optional=True),
        response(180, optional=True),
        response(200),
        inside("INVITE", 2, body=sdp(2)),
        response(100, optional=True),
        response(500, ("Retry-After", "[0-9]"), rrs=False),
        send("ACK [next_url] SIP/2.0", caller_head("ACK", 2, via="[last_Via:]")),
        ack(body=sdp()),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "a-reinvite-in-an-early-dialog-is-491",
    [
        invite(),
        response(100),
        response(180),
        inside("INVITE", 2, body=sdp(2)),
        response(100, optional=True),
        response(491, rrs=False),
        send("ACK [next_url] SIP/2.0", caller_head("ACK", 2, via="[last_Via:]")),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [
        ringing(*KEEP),
        reply(180),
        pause(600),
        reply_to_invite(200, body=sdp(), retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "update-with-an-offer-within-a-call",
    [
        invite(),
        *answered(),
        inside("UPDATE", 2, body=sdp(2, "a=sendonly\n")),
        response(200, ("body", "a=recvonly"), rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "update-without-an-offer-moves-the-target",
    [invite(), *answered(), inside("UPDATE", 2), response(200, rrs=False), *hang_up(3)],
    [*takes_call(), *takes_bye()],
)
case(
    "update-with-a-bad-offer-is-488",
    [
        invite(),
        *answered(),
        inside(
            "UPDATE", 2, body="v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\nm=image 1 udptl t38\n"
        ),
        response(488, rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "update-by-the-callee-in-an-early-dialog",
    [invite(), response(100), response(183), response(200), ack(), *hang_up()],
    [
        ringing(*KEEP),
        reply(183, *RELIABLE, body=sdp()),
        request("PRACK"),
        ok(),
        callee_inside("UPDATE", 2, body=sdp(2)),
        response(200, ("body", "m=audio")),
        reply_to_invite(200, retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "update-before-the-first-answer-is-500",
    [
        invite(),
        response(100),
        response(180),
        inside("UPDATE", 2, body=sdp(2)),
        response(500, ("Retry-After", "[0-9]"), rrs=False),
        response(200),
        ack(),
        *hang_up(3),
    ],
    [
        ringing(*KEEP),
        reply(180),
        pause(400),
        reply_to_invite(200, body=sdp(), retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
)

# ---- session timers (RFC 4028)
case(
    "a-session-too-short-is-422",
    [
        invite("Supported: timer", "Session-Expires: 30"),
        response(100, optional=True),
        response(422, ("Min-SE", "90"), rrs=False),
        ack_refusal(),
    ],
)
case(
    "a-callees-422-is-followed",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Session-Expires", "90")),
        reply(422, "Min-SE: 300"),
        request("ACK"),
        ringing(("Session-Expires", "300")),
        reply(180),
        answer("Session-Expires: 300;refresher=uac", "Require: timer"),
        request("ACK"),
        *takes_bye(),
    ],
    trunk='session_timer = "90s"',
)
case(
    "a-session-timer-asked-for-is-granted",
    [
        invite(SE, "Session-Expires: 600;refresher=uac"),
        *answered(("Session-Expires", "600;refresher=uac")),
        inside("UPDATE", 2, SE, "Session-Expires: 600;refresher=uac"),
        response(200, ("Session-Expires", "600;refresher=uac"), rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "we-refresh-by-update",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        answer(
            "Session-Expires: 90;refresher=uac",
            "Require: timer",
            "Allow: INVITE, ACK, BYE, UPDATE",
            body=HELD,
        ),
        request("ACK"),
        request("UPDATE", ("Session-Expires", "90;refresher=uac")),
        reply(200, "Session-Expires: 90;refresher=uac", tag=""),
        callee_inside("BYE", 2),
        response(200),
    ],
    slow=True,
)
case(
    "we-refresh-by-reinvite",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        answer(
            "Session-Expires: 90;refresher=uac",
            "Require: timer",
            "Allow: INVITE, ACK, BYE",
            body=HELD,
        ),
        request("ACK"),
        request("INVITE", ("body", "m=audio")),
        reply(200, "Session-Expires: 90;refresher=uac", tag="", body=sdp(), retrans=500),
        request("ACK"),
        callee_inside("BYE", 2),
        response(200),
    ],
    slow=True,
)
case(
    "a-peer-that-forgets-its-refresh-is-hung-up",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        answer("Session-Expires: 90;refresher=uas", "Require: timer", body=HELD),
        request("ACK"),
        request("BYE", ("Reason", "expire")),
        ok(),
    ],
    slow=True,
)
case(
    "glare-491-is-waited-out",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        answer(
            "Session-Expires: 90;refresher=uac",
            "Require: timer",
            "Allow: INVITE, ACK, BYE",
            body=HELD,
        ),
        request("ACK"),
        request("INVITE"),
        reply(491, tag=""),
        request("ACK"),
        request("INVITE"),
        reply(200, "Session-Expires: 90;refresher=uac", tag="", body=sdp(), retrans=500),
        request("ACK"),
        callee_inside("BYE", 2),
        response(200),
    ],
    slow=True,
)
case(
    "a-407-on-our-reinvite-is-answered-where-the-invite-was",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        reply(401, DIGEST.format(n=1)),
        request("ACK"),
        ringing(("Authorization", "n1")),
        answer(
            "Session-Expires: 90;refresher=uac",
            "Require: timer",
            "Allow: INVITE, ACK, BYE",
            body=HELD,
        ),
        request("ACK"),
        request("INVITE"),
        reply(401, DIGEST.format(n=2), tag=""),
        request("ACK"),
        request("INVITE", ("Authorization", "n2")),
        reply(200, "Session-Expires: 90;refresher=uac", tag="", body=sdp(), retrans=500),
        request("ACK"),
        callee_inside("BYE", 2),
        response(200),
    ],
    trunk='username = "u"\npassword = "p"\nrealm = "carrier"',
    slow=True,
)
case(
    "a-refresh-that-finds-no-dialog-ends-the-call",
    [invite(), *answered(), request("BYE"), ok()],
    [
        ringing(),
        answer(
            "Session-Expires: 90;refresher=uac",
            "Require: timer",
            "Allow: INVITE, UPDATE",
            body=HELD,
        ),
        request("ACK"),
        request("UPDATE"),
        reply(481, tag=""),
        request("BYE"),
        ok(),
    ],
    slow=True,
)

# ---- forks, redirections, failover
case(
    "two-early-dialogs-one-answer",
    [
        invite(),
        response(100),
        response(183, ("body", "m=audio")),
        response(183, optional=True),
        response(180, optional=True),
        response(200),
        ack(),
        *hang_up(),
    ],
    [
        ringing(*KEEP),
        reply(183, body=sdp(), tag="a"),
        reply_to_invite(183, body=sdp(), tag="b"),
        reply_to_invite(200, body=sdp(), tag="b", retrans=500),
        request("ACK", ("To", "tag=b")),
        request("BYE", ("To", "tag=b")),
        ok(),
    ],
)
case(
    "a-second-fork-that-answers-is-acknowledged-and-hung-up",
    [invite(), *answered(), pause(500), *hang_up()],
    [
        ringing(*KEEP),
        reply_to_invite(200, body=sdp(), tag="a"),
        request("ACK", ("To", "tag=a")),
        reply_to_invite(200, body=sdp(), tag="b"),
        request("ACK", ("To", "tag=b")),
        request("BYE", ("To", "tag=b")),
        ok(),
        request("BYE", ("To", "tag=a")),
        ok(),
    ],
)
case(
    "a-302-is-followed-where-the-route-says-so",
    [invite(), *answered(), *hang_up()],
    [ringing(), reply(302, "Contact: <sip:echo@elsewhere.example>"), request("ACK")],
    route="redirect = true",
    record=(200, "caller"),
)
case(
    "a-302-is-refused-elsewhere",
    [invite(), *refused(480)],
    [ringing(), reply(302, "Contact: <sip:echo@elsewhere.example>"), request("ACK")],
)
case(
    "a-trunk-that-says-503-is-passed-over",
    [invite(), *answered(), *hang_up()],
    [ringing(), reply(503, "Retry-After: 5"), request("ACK")],
    route="then = echo",
)
case(
    "a-silent-trunk-is-passed-over-and-its-late-200-hung-up",
    [invite(), *answered(), pause(1500), *hang_up()],
    [ringing(*KEEP), pause(1600), reply_to_invite(200, body=sdp()), request("ACK"), *takes_bye()],
    route='then = echo\nnext_on = ["408", "5xx", "silent:1s"]',
)
case(
    "busy-is-never-passed-over",
    [invite(), *refused(486)],
    [ringing(), reply(486), request("ACK")],
    route="then = echo",
)
case(
    "q850-says-more-than-a-500",
    [
        invite(),
        response(100),
        response(486, ("Reason", "cause=(486|17)"), rrs=False),
        ack_refusal(),
    ],
    [ringing(), reply(500, 'Reason: Q.850;cause=17;text="User busy"'), request("ACK")],
)

# ---- credentials
CRED = 'username = "acme"\npassword = "trunk-secret"\nrealm = "carrier"'
case(
    "a-401-is-answered",
    [invite(), *answered(), *hang_up()],
    [
        ringing(),
        reply(401, DIGEST.format(n=1)),
        request("ACK"),
        ringing(("Authorization", 'username="acme".*nonce="n1".*nc=00000001')),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk=CRED,
)
case(
    "a-407-is-answered",
    [invite(), *answered(), *hang_up()],
    [
        ringing(),
        reply(407, DIGEST.format(n=1).replace("WWW-", "Proxy-")),
        request("ACK"),
        ringing(("Proxy-Authorization", "acme")),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk=CRED,
)
case(
    "a-second-401-is-not-answered",
    [invite(), *refused(502)],
    [
        ringing(),
        reply(401, DIGEST.format(n=1)),
        request("ACK"),
        ringing(),
        reply(401, DIGEST.format(n=2)),
        request("ACK"),
        silence(700),
    ],
    trunk=CRED,
)
case(
    "a-stale-nonce-is-renewed",
    [invite(), *answered(), *hang_up()],
    [
        ringing(),
        reply(401, DIGEST.format(n=1)),
        request("ACK"),
        ringing(),
        reply(401, DIGEST.format(n=2) + ", stale=true"),
        request("ACK"),
        ringing(("Authorization", "n2")),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk=CRED,
)
case(
    "digest-leak-another-realm-learns-nothing",
    [invite(), *refused(502)],
    [
        ringing(),
        reply(401, DIGEST.format(n=1).replace("carrier", "evil")),
        request("ACK"),
        silence(700),
    ],
    trunk=CRED,
)
case(
    "digest-leak-a-challenged-bye-is-not-answered",
    [invite(), *answered(), *hang_up()],
    [*takes_call(), request("BYE"), reply(401, DIGEST.format(n=1), tag=""), silence(700)],
    trunk=CRED,
)
case(
    "digest-leak-no-credentials-for-a-trunk-without-any",
    [invite(), *refused(502)],
    [ringing(), reply(401, DIGEST.format(n=1)), request("ACK"), silence(500)],
)

# ---- requests we refuse, each in its own words
case("no-route-404", [invite(), *refused(404, ("Reason", "no route"))], to="nowhere")
case(
    "max-forwards-used-up-483",
    [
        invite(
            head=[
                h.replace("Max-Forwards: 70", "Max-Forwards: 0")
                for h in caller_head("INVITE", 1, to_tag=False)
            ]
        ),
        *refused(483),
    ],
)
case(
    "an-extension-we-lack-is-420",
    [invite("Require: nothing-known"), *refused(420, ("Unsupported", "nothing-known"))],
)
case(
    "a-foreign-scheme-is-416",
    [
        invite(uri="mailto:a@b.example"),
        response(100, optional=True),
        response(416, rrs=False),
        send("ACK mailto:a@b.example SIP/2.0", caller_head("ACK", 1, via="[last_Via:]")),
    ],
)
case(
    "a-body-we-cannot-read-is-415",
    [
        send(
            f"INVITE {TO} SIP/2.0",
            caller_head("INVITE", 1, to_tag=False) + [CONTACT],
            "hello\n",
            "text/plain",
            500,
        ),
        *refused(415, ("Accept", "application/sdp")),
    ],
)
case(
    "an-offer-without-our-codecs-is-488",
    [
        invite(body=sdp().replace("0 101", "18").replace("rtpmap:0 PCMU", "rtpmap:18 G729")),
        *refused(488, ("Warning", "305")),
    ],
)
case("an-offer-that-is-garbage-is-488", [invite(body="this is no sdp\n"), *refused(488)])
case(
    "an-offer-of-a-privileged-port-is-488",
    [invite(body=sdp().replace("[media_port]", "22")), *refused(488, ("Warning", "1024"))],
)
case(
    "an-offer-that-names-our-own-media-is-488",
    [
        invite(body=sdp().replace("[media_ip]", "127.0.0.1").replace("[media_port]", "8093")),
        *refused(488, ("Warning", "loop")),
    ],
)
case(
    "no-contact-400",
    [
        send(f"INVITE {TO} SIP/2.0", caller_head("INVITE", 1, to_tag=False), sdp(), retrans=500),
        *refused(400),
    ],
)
case("two-max-forwards-are-400", [outside("OPTIONS", "Max-Forwards: 3"), response(400, rrs=False)])
case(
    "a-method-we-do-not-know-is-501",
    [outside("DANCE"), response(501, ("Allow", "INVITE"), rrs=False)],
)
case(
    "bye-for-no-call-is-481",
    [
        outside(
            "BYE",
            head=[
                h.replace("]>", "]>;tag=none") if h.startswith("To:") else h
                for h in caller_head("BYE", 1, to_tag=False)
            ],
        ),
        response(481, rrs=False),
    ],
)
case("cancel-for-no-invite-is-481", [outside("CANCEL"), response(481, rrs=False)])
case(
    "a-cseq-that-goes-back-is-500",
    [
        invite(),
        *answered(),
        inside("INFO", 50),
        response(200, rrs=False),
        inside("INFO", 20),
        response(500, rrs=False),
        *hang_up(60),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "refer-outside-a-call-is-403",
    [outside("REFER", "Refer-To: <sip:echo@x>"), response(403, rrs=False)],
)
case(
    "subscribe-of-a-trunk-is-403",
    [outside("SUBSCRIBE", "Event: presence"), response(403, rrs=False)],
)
case(
    "message-of-a-trunk-without-leave-is-405",
    [outside("MESSAGE", body="hi\n", kind="text/plain"), response(405, rrs=False)],
)
case(
    "options-tell-what-is-served",
    [
        outside("OPTIONS"),
        response(
            200,
            ("Allow", "UPDATE"),
            ("Supported", "100rel"),
            ("Accept", "application/sdp"),
            rrs=False,
        ),
    ],
)
case(
    "replaces-that-names-nothing-is-481",
    [invite("Replaces: none@x;to-tag=a;from-tag=b"), *refused(481)],
)

# ---- within a call
case(
    "info-digits-are-taken-and-other-bodies-415",
    [
        invite(),
        *answered(),
        inside("INFO", 2, body="Signal=5\nDuration=100\n", kind="application/dtmf-relay"),
        response(200, rrs=False),
        inside("INFO", 3, body="x\n", kind="application/odd"),
        response(415, ("Accept", "dtmf-relay"), rrs=False),
        *hang_up(4),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "info-of-a-package-nobody-asked-for-is-469",
    [
        invite(),
        *answered(),
        inside("INFO", 2, "Info-Package: odd", body="x\n", kind="text/plain"),
        response(469, ("Recv-Info", ""), rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "info-of-a-package-that-was-asked-for-is-passed",
    [
        invite(),
        *answered(),
        inside("INFO", 2, "Info-Package: weather", body="sunny\n", kind="text/plain"),
        response(200, rrs=False),
        pause(200),
        *hang_up(3),
    ],
    [
        *takes_call("Recv-Info: weather"),
        request("INFO", ("Info-Package", "weather"), ("body", "sunny")),
        ok(),
        *takes_bye(),
    ],
)
case(
    "info-digits-go-out-as-info-where-wanted",
    [
        invite(),
        *answered(),
        inside("INFO", 2, body="Signal=5\nDuration=100\n", kind="application/dtmf-relay"),
        response(200, rrs=False),
        pause(200),
        *hang_up(3),
    ],
    [*takes_call(), request("INFO", ("body", "Signal=5")), ok(), *takes_bye()],
    trunk='dtmf = "info"',
)
case(
    "options-within-a-call-is-200",
    [invite(), *answered(), inside("OPTIONS", 2), response(200, rrs=False), *hang_up(3)],
    [*takes_call(), *takes_bye()],
)
case(
    "a-reason-is-carried-across",
    [
        invite(),
        *answered(),
        inside("BYE", 2, 'Reason: Q.850;cause=34;text="No circuit"'),
        response(200, rrs=False),
    ],
    [*takes_call(), request("BYE", ("Reason", "(Q.850;cause=34|No circuit)")), ok()],
)

# ---- transfers
EXECUTE = 'refer = "execute"'
case(
    "a-blind-transfer-by-the-caller",
    [
        invite(),
        *answered(),
        inside("REFER", 2, "Refer-To: <sip:echo@x>"),
        response(202, rrs=False),
        request("NOTIFY", ("body", "SIP/2.0 100")),
        ok(),
        request("NOTIFY", ("body", "SIP/2.0 200"), ("Subscription-State", "terminated")),
        ok(),
        inside("BYE", 3),
        response(200, rrs=False),
    ],
    [*takes_call(), pause(700), callee_inside("BYE", 2), response(200)],
    from_trunk=EXECUTE,
)
case(
    "a-transfer-that-fails-goes-back",
    [
        invite(),
        *answered(),
        inside("REFER", 2, "Refer-To: <sip:hangup@x>"),
        response(202, rrs=False),
        request("NOTIFY"),
        ok(),
        request("NOTIFY", ("body", "SIP/2.0 480")),
        ok(),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
    from_trunk=EXECUTE,
)
case(
    "a-transfer-to-nowhere-is-404",
    [
        invite(),
        *answered(),
        inside("REFER", 2, "Refer-To: <sip:nowhere@x>"),
        response(404, rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
    from_trunk=EXECUTE,
)
case(
    "a-transfer-without-leave-is-403",
    [
        invite(),
        *answered(),
        inside("REFER", 2, "Refer-To: <sip:echo@x>"),
        response(403, rrs=False),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
)
case(
    "a-transfer-without-a-subscription",
    [
        invite(),
        *answered(),
        inside("REFER", 2, "Refer-To: <sip:echo@x>", "Refer-Sub: false"),
        response(202, ("Refer-Sub", "false"), rrs=False),
        inside("BYE", 3),
        response(200, rrs=False),
    ],
    [*takes_call(), pause(500), callee_inside("BYE", 2), response(200)],
    from_trunk=EXECUTE,
)

# ---- who calls
case(
    "p-asserted-identity-is-ours",
    [invite("P-Asserted-Identity: <sip:president@evil>"), *answered(), *hang_up()],
    [
        ringing(("P-Asserted-Identity", "4930123@127")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "a-trusted-trunks-identity-and-diversion-go-on",
    [
        invite(
            "P-Asserted-Identity: <sip:+4989111@x>", "Diversion: <sip:+4930555@x>;reason=user-busy"
        ),
        *answered(),
        *hang_up(),
    ],
    [
        ringing(("P-Asserted-Identity", "4989111"), ("Diversion", "4930555.*user-busy")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk="trusted = true",
    from_trunk="trusted = true",
)
case(
    "privacy-hides-the-caller",
    [invite("Privacy: id"), *answered(), *hang_up()],
    [
        ringing(("From", "anonymous.invalid"), ("Privacy", "id")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
)
case(
    "a-trunks-from-rules",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("From", "Acme.*acme@acme.example")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk='from_user = "acme"\nfrom_domain = "acme.example"\ndisplay_name = "Acme"',
)
case(
    "max-forwards-is-counted-down",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Max-Forwards", "69"), ("Max-Breadth", "60")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
)


# ---- limits
# ---- trunks that register with us
def register(*more, cseq=1):
    head = [
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]",
        "Max-Forwards: 70",
        "From: <sip:[service]@wt.test>;tag=r[call_number]",
        "To: <sip:[service]@wt.test>",
        "Call-ID: [call_id]",
        f"CSeq: {cseq} REGISTER",
    ]
    return send(
        "REGISTER sip:wt.test SIP/2.0",
        head + ["Contact: <sip:[service]@[local_ip]:[local_port];transport=[transport]>", *more],
        retrans=500,
    )


AUTH = "[authentication]"
BRANCH = 'accepts_registration = true\nusername = "{name}"\npassword = "branch-secret"'
challenged = '<recv response="401" auth="true"></recv>'
case(
    "a-trunk-registers-with-digest",
    [
        register("Expires: 300"),
        challenged,
        register("Expires: 300", AUTH, cseq=2),
        response(200, ("Contact", "expires=300"), rrs=False),
    ],
    to="register",
    from_trunk=BRANCH,
    args=["-ap", "branch-secret"],
)
case(
    "a-trunk-with-a-wrong-password-is-403",
    [
        register("Expires: 300"),
        challenged,
        register("Expires: 300", AUTH, cseq=2),
        response(403, rrs=False),
    ],
    to="register",
    from_trunk=BRANCH,
    args=["-ap", "guess"],
)
case(
    "a-registration-too-short-is-423",
    [
        register("Expires: 5"),
        challenged,
        register("Expires: 5", AUTH, cseq=2),
        response(423, ("Min-Expires", "60"), rrs=False),
    ],
    to="register",
    from_trunk=BRANCH,
    args=["-ap", "branch-secret"],
)
case(
    "a-trunk-unregisters",
    [
        register("Expires: 300"),
        challenged,
        register("Expires: 300", AUTH, cseq=2),
        response(200, rrs=False),
        register("Expires: 0", cseq=3),
        challenged,
        register("Expires: 0", AUTH, cseq=4),
        response(200, rrs=False),
    ],
    to="register",
    from_trunk=BRANCH,
    args=["-ap", "branch-secret"],
)
