// button.mjs TOKEN_JSON: a page of another origin with the two lines of the book, in real Chromium:
// its button is pressed, and what comes back from the far end is heard.
import { block, browser, until } from "../chromium/rig.mjs";
import { playing, shop } from "../chromium/packages.mjs";

const gateway = "http://localhost:8090";
const lines = block("how-to/call-button.md", "button.html").replace(
  "https://calls.example.com",
  gateway,
);
const chrome = await browser();
const own = await shop(chrome, {
  "/": `<!doctype html><html lang="en"><title>shop</title><h1>Shop</h1>${lines}</html>`,
  "/voice/token": process.argv[2],
});
await own.page.goto("http://localhost:8097/");
const button = own.page.locator("call-button").locator('[part~="button"]');
await button.click();
const state = own.page.locator("call-button");
await until("it is connected", async () => {
  const told = await state.locator('[part~="state"]').textContent();
  if (/The call failed/.test(told)) throw new Error(told);
  return (await state.getAttribute("data-state")) === "connected";
});
await until("its own tone comes back", async () => {
  const { hz } = await playing(own.page);
  return Math.abs(hz - 440) < 8;
});
await button.click();
await own.page.waitForSelector('call-button[data-state="idle"]');
await own.close();
await chrome.close();
