"""Every SIPp case: a behaviour by name, what the caller does, what the callee does.

`to` is what the caller dials: "callee" (the case's own SIPp), "echo" (a far end of webtrunk's
own), or a number. `udp_only` and `tcp_only` say why. `seen` is (side, text, least times it came
in): SIPp hides what is repeated. `heard` is the least number of packets that must have come from
the callee. `record` is the status and who hung up, or several of whom one may have. `slow` cases
run in `make test-all`.
"""

import importlib
import pkgutil

from words import sdp

SE = "Supported: timer"
# No media flows in these cases, and none is missed on hold.
HELD = sdp(1, "a=inactive\n")
RELIABLE = ["Require: 100rel", "RSeq: 1"]
RSEQ = ("RSeq", "[0-9]+", "rseq")
EXECUTE = 'refer = "execute"'
DIGEST = 'WWW-Authenticate: Digest realm="carrier", nonce="n{n}", algorithm=MD5, qop="auth"'

CASES = {}


def case(
    name,
    caller,
    callee=None,
    to=None,
    calls=1,
    route="",
    trunk="",
    from_trunk="",
    udp_only="",
    tcp_only="",
    slow=False,
    record=None,
    seen=None,
    heard=None,
    args=(),
    callee_args=(),
):
    assert name not in CASES, name
    CASES[name] = dict(
        name=name,
        caller=caller,
        callee=callee,
        to=to or ("callee" if callee else "echo"),
        calls=calls,
        route=route,
        trunk=trunk,
        from_trunk=from_trunk,
        udp_only=udp_only,
        tcp_only=tcp_only,
        slow=slow,
        record=record,
        seen=seen,
        heard=heard,
        args=list(args),
        callee_args=list(callee_args),
    )


# Each topic adds its own.
for topic in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{topic.name}")
