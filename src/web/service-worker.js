// Keeps the page, so that it opens and says what is wrong while the gateway is away; and shows
// calls while nobody looks. Calls, logins and the API are never kept.
"use strict";

const KEPT = "webtrunk-page";
const FILES = [
  "./",
  "page.css",
  "page.js",
  "charts.js",
  "jssip.js",
  "icon.svg",
  "icon-192.png",
  "manifest.webmanifest",
];
const addresses = FILES.map((file) => new URL(file, self.registration.scope).href);

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(addresses)));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

/** The gateway's own answer if it gives one, and what it last gave if not. */
async function fresh(request, address) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(address, response.clone());
    return response;
  } catch (error) {
    const found = await cache.match(address);
    if (!found) throw error;
    return found;
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = request.url.split(/[?#]/)[0];
  if (request.method === "GET" && addresses.includes(address))
    event.respondWith(fresh(request, address));
});

/** How long a page may take to say that a call is its own, milliseconds. */
const SOON = 500;

/** Fulfilled with `page` once it says that the call is its own. */
const asked = (page, message) =>
  new Promise((found) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => found(page);
    page.postMessage(message, [port2]);
  });

/** Tells the page whose call it is, of however many are open, and shows that one. */
async function chosen(message) {
  const pages = await self.clients.matchAll({ type: "window" });
  if (!pages.length) return self.clients.openWindow(self.registration.scope);
  const late = new Promise((over) => setTimeout(over, SOON, pages[0]));
  const page = await Promise.race([...pages.map((one) => asked(one, message)), late]);
  return page.focus();
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const message = { action: event.action, call: event.notification.data?.call };
  event.waitUntil(chosen(message));
});
