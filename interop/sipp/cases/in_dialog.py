"""Requests within a call, and transfers."""

from words import *

from . import EXECUTE, case

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
