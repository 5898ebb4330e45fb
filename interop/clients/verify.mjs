// What Standard Webhooks' own library says of each request on the standard input:
// `[{"secret", "body", "headers"}]` becomes `[true, ...]`.
import { readFileSync } from "node:fs";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

function isVerified({ secret, body, headers }) {
  try {
    return typeof new Webhook(secret).verify(body, headers).type === "string";
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(isVerified)));
