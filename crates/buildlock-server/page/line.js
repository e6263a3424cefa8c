// A build that waits in line for its turn. The place belongs to the request's key: sent again with it
// after a lost connection, or after the window was loaded anew, the request keeps its place.

import * as api from "./api.js";
import { connection } from "./live.js";

// The longest wait that the server takes; after it, whoever waited is asked again.
const WAIT_S = 3600;
// How long the server keeps the place of a request that has broken off.
const KEPT_MS = 15_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

/** A request's key that nobody else has. */
export function fresh() {
  // Pages from other addresses than this machine have no randomUUID without TLS.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const saved = (project) => `line:${project}`;

export class Line {
  #project;
  #changed;
  #abort = null;
  /** What waits: `{operation, prompt, key}`; null if nothing does. */
  waits = null;

  /** @param changed called when the wait begins or ends */
  constructor(project, changed) {
    this.#project = project;
    this.#changed = changed;
    addEventListener("pagehide", () => {
      if (this.waits) sessionStorage.setItem(saved(project), JSON.stringify({ ...this.waits, leftAt: Date.now() }));
    });
  }

  /** Goes on with a wait of this window that loading it anew has broken off. */
  resume(started, failed) {
    const { leftAt, ...waits } = JSON.parse(sessionStorage.getItem(saved(this.#project))) ?? {};
    // A window that is opened again much later must not build by itself what nobody wants any more.
    if (Date.now() - leftAt < KEPT_MS) this.#run(waits, started, failed);
    else this.#set(null);
  }

  /** Goes to the end of the line. */
  join(operation, prompt, started, failed) {
    this.#run({ operation, prompt, key: fresh() }, started, failed);
  }

  /** Gives the place up. */
  leave() {
    const { key } = this.waits ?? {};
    this.#abort?.abort();
    this.#set(null);
    // To go away alone would keep the place for a while.
    if (key) api.withdraw(this.#project, key);
  }

  /** The place in a queue, the first being 1; null if it is not known yet. */
  placeIn(queue) {
    const index = queue.findIndex(({ request }) => request && request === this.waits?.key);
    return index < 0 ? null : index + 1;
  }

  #set(waits) {
    const changed = Boolean(waits) !== Boolean(this.waits);
    this.waits = waits;
    sessionStorage.removeItem(saved(this.#project));
    if (changed) this.#changed();
  }

  async #run(waits, started, failed) {
    const me = {};
    const abort = (this.#abort = new AbortController());
    const { operation, prompt, key } = waits;
    this.#set(waits);
    for (let retry = FIRST_RETRY_MS; ; retry = Math.min(retry * 2, LAST_RETRY_MS)) {
      try {
        const build = await api.start({ project: this.#project, operation, prompt, key, wait: WAIT_S, signal: abort.signal });
        this.#set(null);
        connection(me, true);
        return started(build);
      } catch (error) {
        if (error.name === "AbortError") break;
        if (!error.passing) {
          this.#set(null);
          failed(error, operation, prompt);
          break;
        }
        connection(me, false);
      }
      await new Promise((resolve) => setTimeout(resolve, retry));
      if (abort.signal.aborted) break;
    }
    connection(me, true);
  }
}
