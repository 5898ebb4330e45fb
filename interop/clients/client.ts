// Uses a running gateway by the client generated from its own description: `client.ts URL TOKEN`.
import { client } from "./generated/client.gen.js";
import { createCredentials, getCall, getStatus, listCalls, testRoute } from "./generated/index.js";

const [, , baseUrl, token] = process.argv;
client.setConfig({ baseUrl: `${baseUrl}/api/v1`, auth: () => token, throwOnError: true });

const status = await getStatus({ throwOnError: true });
const made = await createCredentials({
  body: { user: "anna", context: "out", ttl: "5m" },
  throwOnError: true,
});
const route = await testRoute({ body: { number: "9196", as: "user:alice" }, throwOnError: true });
const calls = await listCalls({ query: { limit: 10 }, throwOnError: true });
const none = await getCall({ path: { id: "0123456789ab" }, throwOnError: false });

// Types are checked when this is compiled; that they are true is checked by who reads this line.
const seen = {
  domain: status.data.domain satisfies string,
  user: made.data.username satisfies string,
  route: route.data.route,
  calls: calls.data.length satisfies number,
  none: none.error?.status,
};
console.log(JSON.stringify(seen));
