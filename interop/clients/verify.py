"""What Standard Webhooks' own library says of each request on the standard input:
`[{"secret", "body", "headers"}]` becomes `[true, ...]`."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def is_verified(request):
    try:
        told = Webhook(request["secret"]).verify(request["body"], request["headers"])
    except WebhookVerificationError:
        return False
    return isinstance(told["type"], str)


print(json.dumps([is_verified(request) for request in json.load(sys.stdin)]))
