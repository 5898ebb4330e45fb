"""What FreeSWITCH does that other peers do not, played by SIPp: it cannot be installed here.

Each was seen of FreeSWITCH 1.11 with its vanilla configuration and the files of
`interop/freeswitch`.
"""

from cases import case
from words import (
    KEEP,
    answer,
    answered,
    hang_up,
    invite,
    ok,
    pause,
    refused,
    reply,
    reply_to_invite,
    request,
    ringing,
    sdp,
    speak,
    takes_bye,
)

KEYS = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\n"
HEAD, AUDIO = sdp().split("m=audio", 1)
PLAIN = f"m=audio{AUDIO}"
SECURE = PLAIN.replace("RTP/AVP", "RTP/SAVP") + KEYS
# Each section has a port of its own.
SAVP_THEN_AVP = HEAD + SECURE + PLAIN.replace("[media_port]", "[media_port+4]")
AVP_THEN_SAVP = HEAD + PLAIN + SECURE.replace("[media_port]", "[media_port+4]")
# The far end moves its media to another port with its answer, as after bypass media and failover.
ELSEWHERE = sdp().replace("[media_port]", "[media_port+10]")
TAKES_PLAIN_SECOND = ("body", "m=audio 0 RTP/SAVP.*m=audio [1-9][0-9]* RTP/AVP")
TAKES_PLAIN_FIRST = ("body", "m=audio [1-9][0-9]* RTP/AVP.*m=audio 0 RTP/SAVP")
TAKES_KEYS = ("body", "m=audio [1-9][0-9]* RTP/SAVP.*a=crypto:1.*m=audio 0 RTP/AVP")
SPOKEN = sdp().replace("[media_port]", "[rtpstream_audio_port]")
ECHO = ["-rtp_echo"]

case(
    "freeswitch-a-183-and-then-a-200-that-differs",
    [invite(body=SPOKEN), *answered(), speak(), pause(1500), *hang_up()],
    [
        ringing(*KEEP),
        reply(183, body=ELSEWHERE),
        pause(200),
        reply_to_invite(200, body=sdp(), retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
    callee_args=ECHO,
    record=(200, "caller"),
    heard=30,
)
case(
    "freeswitch-a-183-and-then-a-200-of-a-newer-version",
    [invite(body=SPOKEN), *answered(), speak(), pause(1500), *hang_up()],
    [
        ringing(*KEEP),
        reply(183, body=ELSEWHERE),
        pause(200),
        reply_to_invite(200, body=sdp(2), retrans=500),
        request("ACK"),
        *takes_bye(),
    ],
    callee_args=ECHO,
    record=(200, "caller"),
    heard=30,
)
case(
    "freeswitch-savp-first-and-avp-second-in-a-delayed-offer",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Content-Length", "^ *0")),
        reply(180),
        answer(body=SAVP_THEN_AVP),
        request("ACK", TAKES_PLAIN_SECOND),
        *takes_bye(),
    ],
    trunk="delayed_offer = true",
    record=(200, "caller"),
)
case(
    "freeswitch-savp-first-in-a-delayed-offer-where-keys-are-wanted",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("Content-Length", "^ *0")),
        reply(180),
        answer(body=SAVP_THEN_AVP),
        request("ACK", TAKES_KEYS),
        *takes_bye(),
    ],
    trunk='delayed_offer = true\nsrtp = "optional"',
    record=(200, "caller"),
)
case(
    "freeswitch-calls-with-savp-first-and-avp-second",
    [invite(body=SAVP_THEN_AVP), *answered(TAKES_PLAIN_SECOND), *hang_up()],
    record=(200, "caller"),
)
case(
    "freeswitch-calls-with-avp-first-and-savp-second",
    [invite(body=AVP_THEN_SAVP), *answered(TAKES_PLAIN_FIRST), *hang_up()],
    record=(200, "caller"),
)
case(
    "freeswitch-refuses-keys-in-avp-and-is-asked-without",
    [invite(), *answered(), *hang_up()],
    [
        ringing(("body", "a=crypto:")),
        reply(488),
        request("ACK"),
        ringing(("body", "RTP/AVP"), ("not body", "a=crypto:")),
        reply(180),
        answer(),
        request("ACK"),
        *takes_bye(),
    ],
    trunk='srtp = "optional"',
    record=(200, "caller"),
)
case(
    "freeswitch-refuses-keys-and-gets-no-call-without-where-they-are-required",
    [invite(), *refused(488)],
    [ringing(("body", "a=crypto:")), reply(488), request("ACK"), pause(700)],
    trunk='srtp = "required"',
    record=(488, "callee"),
)
# Killed with -9: nothing is sent any more, and its ports are closed. The caller is told within the
# scenario's time, and nobody says that it was the caller who hung up.
case(
    "freeswitch-killed-in-mid-call",
    [invite(body=SPOKEN), *answered(), speak(), request("BYE"), ok()],
    [ringing(), reply(180), answer(body=SPOKEN), request("ACK"), speak(), pause(1500)],
    record=(200, ("webtrunk", "media", "callee")),
    heard=30,
)
