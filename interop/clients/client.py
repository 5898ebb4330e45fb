"""Uses a gateway by the client generated from its own description: `client.py URL TOKEN`."""

import json
import sys

from generated import AuthenticatedClient
from generated.api.calls import get_call, list_calls
from generated.api.credentials import create_credentials
from generated.api.dialplan import test_route
from generated.api.status import get_status
from generated.models import CreateCredentialsBody, Problem, TestRouteBody

_, url, token = sys.argv
client = AuthenticatedClient(base_url=f"{url}/api/v1", token=token)

status = get_status.sync(client=client)
made = create_credentials.sync(
    client=client, body=CreateCredentialsBody(user="anna", context="out", ttl="5m")
)
route = test_route.sync(client=client, body=TestRouteBody(number="9196", as_="user:alice"))
calls = list_calls.sync(client=client, limit=10)
none = get_call.sync("0123456789ab", client=client)
if not isinstance(none, Problem):
    raise SystemExit(f"not told as a problem: {none!r}")
seen = {
    "domain": status.domain,
    "user": made.username,
    "route": route.route,
    "calls": len(calls),
    "none": none.status,
}
print(json.dumps(seen))
