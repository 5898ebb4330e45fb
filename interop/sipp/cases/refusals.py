"""Requests that are refused, each in its own words."""

from words import *

from . import case

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
