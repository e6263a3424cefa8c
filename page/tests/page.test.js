// A stranger's way through the page, in a real browser, on the real server.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { openWindow, pictures, startBrowser, startServer, startWire } from "./support.js";

let browser;

before(async () => {
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
});

/** A server, and a browser's profile of its own that is signed in to it. */
async function signedIn(t, options) {
  const server = await startServer(options);
  t.after(() => server.stop());
  const context = await browser.newContext({ viewport: { width: 900, height: 1000 }, locale: "en-GB" });
  t.after(() => context.close());
  const page = await openWindow(context);
  await page.goto(server.signInLink);
  await page.getByRole("heading", { name: "Projects" }).waitFor();
  return { server, context, page };
}

// More steps than any build has.
const MANY = 1000;

const buildPage = (server, project) => new URL(`/build/${encodeURIComponent(project)}`, server.url).href;
const button = (page, name) => page.getByRole("button", { name, exact: true });
const seen = (page, text) => page.getByText(text).first().waitFor();
const status = (page) => page.locator("main > .heading [data-word]").textContent();
const logLines = (page) => page.locator("[data-log] span").allTextContents();
const picture = (page, name) => page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });

// Each has a server, a store and a browser's profile of its own, and mostly waits.
describe("the page", { concurrency: 3 }, () => {
  test("a stranger signs in, builds, is refused a second build in plain words, waits in line, and gets the turn", async (t) => {
    const server = await startServer();
    t.after(() => server.stop());
    const context = await browser.newContext({ viewport: { width: 900, height: 1000 }, locale: "en-GB" });
    t.after(() => context.close());

    const first = await openWindow(context);
    await first.goto(server.url);
    await seen(first, "Open the sign-in link");
    await first.goto(server.signInLink);
    await seen(first, "No projects yet");

    await first.getByLabel("Project").fill("my-site");
    await button(first, "Open").click();
    await first.waitForURL("**/build/my-site");
    await first.getByLabel("Prompt").fill("A site for my bakery in Porto");
    await button(first, "Generate").click();
    // The log comes line by line, while the build runs.
    await seen(first, "Reading the prompt: A site for my bakery in Porto");
    await server.allow(1);
    await seen(first, "Choosing colours");
    assert.equal((await logLines(first)).length, 2);
    assert.equal(await status(first), "Building");
    assert.match(await first.title(), /^● my-site/);

    const second = await openWindow(context);
    await second.goto(first.url());
    await second.getByLabel("Prompt").fill("Make it green");
    await button(second, "Edit").click();
    await seen(second, "Your build has not started.");
    const refusal = await second.locator("[data-refusal]").textContent();
    assert.match(refusal, /You have been building \(generate\) since \d\d:\d\d, for \d+ s\. Nobody waits in line\./);
    await picture(second, "refused");
    await button(second, "Wait in line").click();
    await seen(second, "You are next in line.");
    await seen(first, "1 waits in line.");
    await picture(second, "in-line");
    // Loading the window anew keeps the place.
    await second.reload();
    await seen(second, "You are next in line.");

    await server.allow(MANY);
    // The turn comes by itself, in both windows.
    await seen(second, "Reading the instruction: Make it green");
    await seen(first, "Reading the instruction: Make it green");
    assert.ok(await second.locator("[data-line]").isHidden());
    await second.locator("[data-build-word]", { hasText: "Succeeded" }).waitFor();
    assert.deepEqual(await logLines(second), [
      "Reading the instruction: Make it green", "Opening version 1", "Painting it green", "Laying out the page",
      "Looking it over", "Version 2 is there.",
    ]);
    assert.equal(await status(second), "Idle");
    await picture(second, "done");

    const [site] = await Promise.all([context.waitForEvent("page"), second.getByRole("link", { name: "Open the site" }).click()]);
    await site.getByRole("heading", { name: "A site for my bakery in Porto" }).waitFor();
    const look = await site.evaluate(() => ({
      origin: self.origin,
      sheets: document.styleSheets.length,
      background: getComputedStyle(document.querySelector("header")).backgroundImage,
    }));
    assert.equal(look.origin, "null", "the site is a stranger to the server");
    assert.match(look.background, /^linear-gradient/, "the site has its style");
    await assert.rejects(site.evaluate(() => document.cookie), /sandboxed/);
    await site.getByRole("link", { name: "Version 1" }).click();
    await seen(site, "Version 1 of");
    await picture(site, "site");

    assert.deepEqual([...first.troubles, ...second.troubles], []);
  });

  test("somebody else's build is named, with what and since when; the place in line moves up, and can be left", async (t) => {
    const { server, page } = await signedIn(t);
    const anas = await server.build("shop", "generate", "A shop for hats", "Ana <b>");
    await seen(page, "Ana <b> has been building (generate) since");
    await page.getByRole("link", { name: "shop" }).click();
    await seen(page, "Ana <b> has been building (generate) since");
    await seen(page, "A shop for hats");
    assert.ok(await button(page, "Cancel this build").isHidden(), "it is Ana's to cancel");

    const bens = server.ask("POST", "/v1/builds", {
      body: { projectId: "shop", operation: "generate", prompt: "B", wait: 600 },
      holder: "Ben",
      headers: { prefer: "respond-async" },
    });
    await seen(page, "1 waits in line.");
    await page.getByLabel("Prompt").fill("Mine");
    await button(page, "Generate").click();
    await seen(page, "Your build has not started.");
    await button(page, "Wait in line").click();
    await seen(page, "You are 2nd in line.");
    await server.ask("POST", `/v1/builds/${anas.id}/cancel`);
    await seen(page, "Ben has been building (generate) since");
    await seen(page, "You are next in line.");
    assert.equal(await page.locator("#said").textContent(), "You are next in line.");
    await button(page, "Leave the line").click();
    await seen(page, "Nobody waits in line.");
    await server.ask("POST", `/v1/builds/${(await bens).id}/cancel`);
    await page.locator("main > .heading", { hasText: "Idle" }).waitFor();
    assert.deepEqual(page.troubles, []);
  });

  test("one's own build can be cancelled, and one that fails says why", async (t) => {
    const { server, page } = await signedIn(t);
    await page.goto(buildPage(server, "my-site"));
    await button(page, "Edit").click();
    await page.locator("[data-build-word]", { hasText: "Failed" }).waitFor();
    await seen(page, "There is no site yet: generate one first.");
    await page.getByLabel("Prompt").fill("A site");
    await button(page, "Generate").click();
    await button(page, "Cancel this build").click();
    await page.locator("[data-build-word]", { hasText: "Cancelled" }).waitFor();
    await seen(page, "cancelled by");
    await page.locator("main > .heading", { hasText: "Idle" }).waitFor();
    assert.deepEqual(page.troubles, []);
  });

  const HOSTILE_IDS = ["<img src=x onerror=alert(1)>", "../x", "..", "a/b?c#d&e=f;'\"", "%2E%2E", "🏗️ \u202eodd"];

  test("any project id and any prompt is text, from the list to the site", async (t) => {
    const { server, context, page } = await signedIn(t, { pace: 0 });
    const prompt = "<script>alert(1)</script> \"q\" 'q' & 🏗️\n</textarea><img src=x onerror=alert(2)>";
    for (const id of HOSTILE_IDS) {
      await page.goto(server.url);
      await page.getByLabel("Project").fill(id);
      await button(page, "Open").click();
      await page.locator("h1 bdi").waitFor();
      assert.equal(await page.locator("h1 bdi").textContent(), id);
      await page.getByLabel("Prompt").fill(prompt);
      await button(page, "Generate").click();
      await page.locator("[data-build-word]", { hasText: "Succeeded" }).waitFor();
      await seen(page, "Reading the prompt: <script>alert(1)</script>");
      const [site] = await Promise.all([context.waitForEvent("page"), page.getByRole("link", { name: "Open the site" }).click()]);
      site.on("dialog", (dialog) => page.troubles.push(`a dialog in the site: ${dialog.message()}`));
      await site.waitForLoadState();
      assert.equal(await site.locator("footer bdi").textContent(), id);
      assert.deepEqual(await site.locator("section p").allTextContents(), prompt.split("\n"));
      assert.equal(await site.locator("script, img").count(), 0);
      await site.close();
    }
    await page.goto(server.url);
    await page.locator(".project").nth(HOSTILE_IDS.length - 1).waitFor();
    assert.deepEqual((await page.locator(".project .name").allTextContents()).sort(), [...HOSTILE_IDS].sort());
    assert.deepEqual(page.troubles, []);
  });

  test("a lost connection is said, and made again without a line lost or twice", async (t) => {
    const wire = await startWire();
    t.after(() => wire.close());
    const server = await startServer({ args: ["--allow-host", `127.0.0.1:${wire.port}`] });
    t.after(() => server.stop());
    wire.leadTo(server.url);
    const context = await browser.newContext({ locale: "en-GB" });
    t.after(() => context.close());
    const page = await openWindow(context);
    const link = new URL(server.signInLink);
    link.port = String(wire.port);
    await page.goto(link.href);
    await seen(page, "No projects yet");
    link.pathname = "/build/my-site";
    link.search = "";
    await page.goto(link.href);
    await page.getByLabel("Prompt").fill("A site for my bakery");
    await button(page, "Generate").click();
    await server.allow(2);
    await seen(page, "Writing the text");
    wire.cut();
    await seen(page, /Connection lost .* ago\. Reconnecting/);
    await server.allow(MANY);
    wire.mend();
    await page.locator("#connection").waitFor({ state: "hidden" });
    await page.locator("[data-build-word]", { hasText: "Succeeded" }).waitFor();
    assert.deepEqual(await logLines(page), [
      "Reading the prompt: A site for my bakery", "Choosing colours", "Writing the text", "Laying out the page",
      "Drawing the picture", "Looking it over", "Version 1 is there.",
    ]);
  });

  test("after the server was killed its build is shown as lost, with the reason, and the project is free", async (t) => {
    const { server, page } = await signedIn(t);
    await page.goto(buildPage(server, "my-site"));
    await page.getByLabel("Prompt").fill("A site");
    await button(page, "Generate").click();
    await seen(page, "Reading the prompt: A site");
    await server.kill();
    await seen(page, /Connection lost .* ago\. Reconnecting/);
    const link = await server.restart();
    // Who was signed in to the one is not to the other.
    await seen(page, "Open the sign-in link");
    assert.ok(await page.locator("#connection").isHidden());
    await page.goto(link);
    await page.getByRole("link", { name: "my-site" }).click();
    await page.locator("[data-build-word]", { hasText: "Lost" }).waitFor();
    await seen(page, "the server that ran it ended before it did");
    assert.equal(await status(page), "Idle");
    assert.deepEqual(page.troubles, []);
  });

  test("the page is used with the keyboard alone, fits a phone, and keeps still for those who want that", async (t) => {
    const { server, page } = await signedIn(t, { pace: 0 });
    await page.setViewportSize({ width: 320, height: 640 });
    await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
    await page.goto(buildPage(server, "a-rather-long-project-name-without-any-place-to-break-it".repeat(3)));
    await page.locator("h1 bdi").waitFor();
    // From the top: skip link, name, sign out, prompt.
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
    const order = [];
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press("Tab");
      order.push(await focused());
    }
    assert.deepEqual(order, ["Skip to the content", "buildlock", "Sign out", "prompt", "Generate", "Edit"]);
    await page.getByLabel("Prompt").focus();
    await page.keyboard.type("A site");
    await page.keyboard.press("Control+Enter");
    await page.locator("[data-build-word]", { hasText: "Succeeded" }).waitFor();
    assert.equal(await focused(), "prompt", "what goes on does not take the focus");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
    assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".dot")).animationName), "none");
    await picture(page, "phone");
    assert.deepEqual(page.troubles, []);
  });
});
