"""Calls and their ends."""

from words import *

from . import HELD, case

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
