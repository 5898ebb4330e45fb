"""Session timers (RFC 4028)."""

from words import *

from . import DIGEST, HELD, SE, case

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
