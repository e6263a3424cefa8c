// The real server with the example builder, a real browser, and a wire between them that can be cut.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const target = path.resolve(repository, process.env.CARGO_TARGET_DIR ?? "target");
const binary = path.join(target, process.env.PROFILE ?? "debug", "buildlock");

/** Where screenshots go. */
export const pictures = process.env.PICTURES ?? path.join(target, "page");

// Takes the place of the program by which a builder's step takes its time.
const SLEEP = `#!/bin/sh
taken=$(($(cat "$HOME/taken" 2>/dev/null || echo 0) + 1))
echo "$taken" >"$HOME/taken"
until [ "$(cat "$HOME/steps")" -ge "$taken" ]; do PATH=/usr/bin:/bin sleep 0.05; done
`;

/**
 * Starts `buildlock serve` on a store of its own, with builders whose steps take `pace` seconds; without a
 * pace, as many steps end as `allow` says, counted over all builds.
 */
export async function startServer({ pace, args = [], holder = "operator" } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "buildlock-page-"));
  const allow = async (steps) => {
    await writeFile(path.join(folder, "steps.next"), String(steps));
    await rename(path.join(folder, "steps.next"), path.join(folder, "steps"));
  };
  let search = process.env.PATH;
  if (pace === undefined) {
    await writeFile(path.join(folder, "sleep"), SLEEP, { mode: 0o755 });
    await allow(0);
    search = `${folder}:${search}`;
  }
  const environment = {
    PATH: search,
    HOME: folder,
    SITE_BUILDER_PACE: String(pace ?? 1),
    BUILDLOCK_HOLDER: holder,
    RUST_LOG: "error",
  };
  const config = path.join(repository, "examples/site-builder/buildlock.toml");

  const start = async (listen) => {
    const child = spawn(
      binary,
      ["serve", "--json", "--store", `sqlite:${folder}/locks.db`, "--config", config, "--listen", listen, ...args],
      { stdio: ["ignore", "pipe", "inherit"], env: environment },
    );
    const ended = new Promise((resolve) => child.once("exit", resolve));
    // It says all that it has to say in one object, on one line or several.
    const told = await new Promise((resolve, reject) => {
      let text = "";
      readline.createInterface({ input: child.stdout }).on("line", (line) => {
        text += line;
        try {
          resolve(JSON.parse(text));
        } catch {
          // There is more to come.
        }
      });
      ended.then((code) => reject(new Error(`the server ended with exit code ${code}`)));
    });
    return { child, ended, told };
  };
  let { child, ended, told } = await start("127.0.0.1:0");
  const key = (await readFile(told.operatorKey, "utf8")).trim();

  return {
    url: told.url,
    signInLink: told.signInLink,
    allow,
    /** Asks the API as the operator, or for somebody else. */
    async ask(method, route, { body, holder, headers = {} } = {}) {
      const answer = await fetch(new URL(route, told.url), {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          "content-type": "application/json",
          ...(holder && { "buildlock-holder": encodeURIComponent(holder) }),
          ...headers,
        },
        body: body && JSON.stringify(body),
      });
      if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${await answer.text()}`);
      return answer.status === 204 ? null : answer.json();
    },
    /** Starts a build for somebody; answers when it runs. */
    build(project, operation, prompt, holder) {
      const body = { projectId: project, operation, prompt, message: prompt };
      return this.ask("POST", "/v1/builds", { body, holder, headers: { prefer: "respond-async" } });
    },
    /** Kills it as a power cut would. */
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    /** Starts it anew on the same store and port; answers with a link to sign in. */
    async restart() {
      ({ child, ended, told } = await start(new URL(told.url).host));
      return told.signInLink;
    },
    async stop() {
      child.kill("SIGTERM");
      child.kill("SIGTERM");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Debian's browser, or the one that CHROMIUM names. */
export async function startBrowser() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const executablePath = places.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error("there is no chromium: apt-get install chromium, or set CHROMIUM to its path");
  await mkdir(pictures, { recursive: true });
  return chromium.launch({ executablePath, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
}

/**
 * A window in which nothing may go wrong unseen: an error in a script, something that the page's policy
 * forbids, or a dialog is kept in `troubles`.
 */
export async function openWindow(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.troubles = [];
  page.on("pageerror", (error) => page.troubles.push(String(error)));
  page.on("dialog", (dialog) => {
    page.troubles.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    // What the browser itself says of answers such as 404 or 409 is no trouble.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.troubles.push(message.text());
  });
  return page;
}

/** A wire to a port that can be cut and mended. */
export async function startWire() {
  const sockets = new Set();
  let whole = true;
  let target = 0;
  const server = net.createServer((near) => {
    if (!whole) return near.destroy();
    const far = net.connect(target, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => sockets.delete(one));
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    whole = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: server.address().port,
    leadTo(url) {
      target = Number(new URL(url).port);
    },
    cut,
    mend() {
      whole = true;
    },
    close() {
      cut();
      server.close();
    },
  };
}
