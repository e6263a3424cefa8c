// Takes the picture of the page that the README shows.

import path from "node:path";

import { openWindow, pictures, startBrowser, startServer } from "./support.js";

const server = await startServer({ holder: "ben" });
const browser = await startBrowser();
try {
  const context = await browser.newContext({ viewport: { width: 820, height: 600 }, deviceScaleFactor: 2, locale: "en-GB" });
  const page = await openWindow(context);
  await page.goto(server.signInLink);
  await page.getByText("No projects yet").waitFor();
  await server.build("bakery", "generate", "A site for our bakery in Porto", "Ana");
  await server.allow(3);
  await page.goto(new URL("/build/bakery", server.url).href);
  await page.getByLabel("Prompt").fill("Make it green, and say that we open at seven");
  await page.getByRole("button", { name: "Edit", exact: true }).click();
  await page.getByRole("button", { name: "Wait in line" }).click();
  await page.getByText("You are next in line.").first().waitFor();
  await page.getByText("Laying out the page").waitFor();
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path: path.join(pictures, "page.png"), fullPage: true, animations: "disabled" });
} finally {
  await browser.close();
  await server.stop();
}
