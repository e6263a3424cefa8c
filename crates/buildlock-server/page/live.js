// News from the server that does not break off: lost connections are said, and made again. A window
// that nobody sees holds no connection, since a browser has only six for all its windows.

import { EVENTS, EVENT_NAMES } from "./api.js";
import { duration } from "./words.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
// Many changes come at once, as when a lease is handed on.
const GATHER_MS = 50;

const streams = new Set();
const lost = new Set();
let lostAt = 0;

function show() {
  const element = document.getElementById("connection");
  element.hidden = lost.size === 0;
  if (lost.size) element.textContent = `Connection lost ${duration(Date.now() - lostAt)} ago. Reconnecting …`;
}

setInterval(show, 1000);

/** Follows what happens to projects; `happened` is called with each event, or none if some were missed. */
export function followEvents(happened, check) {
  const handlers = EVENT_NAMES.map((name) => [name, (event) => happened(name === "missed" ? null : event)]);
  return follow(() => EVENTS, Object.fromEntries(handlers), check);
}

/** Marks a connection as lost or well. */
export function connection(whose, well) {
  if (well) lost.delete(whose);
  else if (lost.add(whose).size === 1) lostAt = Date.now();
  show();
}

/**
 * Follows a stream of events, for as long as somebody looks.
 * @param address what to open; called anew for each connection, so that it can say where to go on
 * @param events handlers by the events' names
 * @param check called whenever the connection stands, also anew, and whenever the server refuses it: what was
 *   missed, and why it refuses, is to be asked for
 * @returns {{close: () => void}} to end it
 */
export function follow(address, events, check = () => {}) {
  const me = {};
  let source = null;
  let timer = 0;
  let wait = FIRST_RETRY_MS;

  const end = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };

  const open = () => {
    end();
    source = new EventSource(address());
    source.onopen = () => {
      wait = FIRST_RETRY_MS;
      connection(me, true);
      check();
    };
    source.onerror = () => {
      connection(me, false);
      // The browser tries again by itself, and says where it was, unless the server refused.
      if (source.readyState !== EventSource.CLOSED) return;
      check();
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    };
    for (const [name, handle] of Object.entries(events)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
  };

  const look = () => (document.hidden ? end() : open());
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  look();

  const stream = {
    close() {
      streams.delete(stream);
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("online", look);
      end();
      connection(me, true);
    },
  };
  streams.add(stream);
  return stream;
}

/** Ends all that is followed. */
export function closeAll() {
  for (const stream of streams) stream.close();
}

/**
 * Calls `work` soon, and once for many calls in between; never two at a time. When the server cannot
 * answer now, that is said and tried again; any other failure is `failed`'s.
 */
export function gathered(work, failed) {
  const me = {};
  let timer = 0;
  let busy = false;
  let again = false;
  let wait = FIRST_RETRY_MS;

  const run = async () => {
    timer = 0;
    busy = true;
    again = false;
    try {
      await work();
      wait = FIRST_RETRY_MS;
      connection(me, true);
    } catch (error) {
      if (!error.passing) return failed(error);
      connection(me, false);
      timer = setTimeout(run, wait);
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    } finally {
      busy = false;
    }
    if (again && !timer) timer = setTimeout(run, GATHER_MS);
  };

  return () => {
    again = true;
    if (!busy && !timer) timer = setTimeout(run, GATHER_MS);
  };
}
