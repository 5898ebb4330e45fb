"""Forks, redirections, failover."""

from words import *

from . import case

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
