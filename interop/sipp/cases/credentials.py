"""Credentials, and trunks that register with us."""

from words import *

from . import DIGEST, case

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
