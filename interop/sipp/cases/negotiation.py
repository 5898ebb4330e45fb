"""Offers late and early, and renegotiation (RFC 3261, RFC 6337)."""

from words import *

from . import RELIABLE, RSEQ, case

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
