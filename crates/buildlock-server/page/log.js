// A build's log as it grows.

import * as api from "./api.js";
import { follow } from "./live.js";
import { exactClock } from "./words.js";

// What a window holds of a log; the rest is in the file that the API gives.
const LINES_SHOWN = 5000;
// How near to the end counts as being there, so that the view goes along.
const NEAR_PX = 40;

/** Shows a build's log in an element, from its beginning, and follows it until it ends. */
export class Log {
  #box;
  #cut;
  #stream = null;
  #last = 0;
  #batch = [];
  #frame = 0;

  constructor(box, cut) {
    this.#box = box;
    this.#cut = cut;
  }

  /** @param ended called once, when the log is complete */
  show(build, ended) {
    this.close();
    this.#box.replaceChildren();
    this.#cut.hidden = true;
    this.#last = 0;
    this.#stream = follow(() => api.logOf(build, this.#last), {
      line: (line) => this.#take(line),
      end: () => {
        this.#stream?.close();
        ended();
      },
    });
  }

  close() {
    this.#stream?.close();
    this.#stream = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#batch = [];
  }

  #take(line) {
    // After a lost connection some lines may come again.
    if (line.number <= this.#last) return;
    this.#last = line.number;
    this.#batch.push(line);
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const box = this.#box;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    box.append(...this.#batch.slice(-LINES_SHOWN).map(row));
    this.#batch = [];
    while (box.childElementCount > LINES_SHOWN) box.firstElementChild.remove();
    if (this.#last > LINES_SHOWN) {
      this.#cut.hidden = false;
      this.#cut.textContent = `The last ${LINES_SHOWN} of ${this.#last} lines.`;
    }
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}

function row({ at, stream, text }) {
  const line = document.createElement("p");
  line.dataset.stream = stream;
  const time = document.createElement("time");
  time.dateTime = at;
  time.textContent = exactClock(at);
  const words = document.createElement("span");
  words.dir = "auto";
  words.textContent = text;
  line.append(time, words);
  return line;
}
