// A build that waits in line for its turn. The place belongs to the request's key: sent again with it
// after a lost connection, or after the window was loaded anew, the request keeps its place.

import * as api from "./api.js";
import { connection } from "./live.js";

// The longest wait that the server takes; after it the request is sent again.
const WAIT_S = 3600;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

const saved = (project) => `line:${project}`;

export class Line {
  #project;
  #me;
  #changed;
  #abort = null;
  /** What waits: `{operation, prompt, key, joinedAt, queuedAt}`; null if nothing does. */
  waits = null;

  /** @param changed called when the wait begins or ends */
  constructor(project, me, changed) {
    this.#project = project;
    this.#me = me;
    this.#changed = changed;
  }

  /** Goes on with a wait of this window that loading it anew has broken off. */
  resume(started, failed) {
    const text = sessionStorage.getItem(saved(this.#project));
    if (text) this.#run(JSON.parse(text), started, failed);
  }

  /** Goes to the end of the line. */
  join(operation, prompt, started, failed) {
    this.#run({ operation, prompt, key: crypto.randomUUID(), joinedAt: api.now(), queuedAt: null }, started, failed);
  }

  /** Gives the place up. */
  leave() {
    this.#abort?.abort();
    this.#set(null);
  }

  /** The place in a queue, the first being 1; null if it is not known yet. */
  placeIn(queue) {
    const { waits } = this;
    if (!waits) return null;
    const index = queue.findIndex(({ holder, operation, queuedAt }) =>
      holder === this.#me && operation === waits.operation &&
      // Other windows of the same person may wait as well: the time of joining tells them apart.
      (waits.queuedAt ? queuedAt === waits.queuedAt : Date.parse(queuedAt) > waits.joinedAt - 1500));
    if (index < 0) return null;
    if (!waits.queuedAt) this.#set({ ...waits, queuedAt: queue[index].queuedAt });
    return index + 1;
  }

  #set(waits) {
    const changed = Boolean(waits) !== Boolean(this.waits);
    this.waits = waits;
    if (waits) sessionStorage.setItem(saved(this.#project), JSON.stringify(waits));
    else sessionStorage.removeItem(saved(this.#project));
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
