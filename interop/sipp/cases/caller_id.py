"""Who calls."""

from words import *

from . import case

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
