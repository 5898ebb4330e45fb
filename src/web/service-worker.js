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

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const message = { action: event.action, call: event.notification.data?.call };
  const open = async () => {
    const [page] = await self.clients.matchAll({ type: "window" });
    if (!page) return self.clients.openWindow(self.registration.scope);
    page.postMessage(message);
    return page.focus();
  };
  event.waitUntil(open());
});
