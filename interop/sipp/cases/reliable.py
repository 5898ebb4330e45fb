"""Reliable provisional responses (RFC 3262)."""

from words import *

from . import RELIABLE, RSEQ, case

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
