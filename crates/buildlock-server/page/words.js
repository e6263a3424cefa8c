// What the page says, in words, and how it puts them on the screen. Text from people is data: it
// goes in as text, never as markup.

import { now } from "./api.js";

const WORDS = {
  idle: "Idle",
  processing: "Building",
  running: "Running",
  succeeded: "Succeeded",
  failed: "Failed",
  cancelled: "Cancelled",
  lost: "Lost",
};

/** A copy of a template, and its parts by their data names. */
export function copy(name) {
  const fragment = document.getElementById(name).content.cloneNode(true);
  return [fragment, (part) => fragment.querySelector(`[data-${part}]`)];
}

/** Shows a status as a dot and a word. */
export function showStatus(element, word, status) {
  element.dataset.is = status;
  word.textContent = WORDS[status] ?? status;
}

/** How long, as people say it: `8 s`, `3 min 5 s`, `2 h 4 min`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** A time of day, with the date unless it is today's. */
export function clock(text) {
  const at = new Date(text);
  const time = { hour: "2-digit", minute: "2-digit" };
  return sameDay(at, new Date(now()))
    ? at.toLocaleTimeString([], time)
    : at.toLocaleString([], { day: "numeric", month: "short", ...time });
}

/** A time of day to the second, always as wide. */
export const exactClock = (text) => new Date(text).toLocaleTimeString("en-GB");

/** `1 waits in line`, and so on. */
export function waiting(count) {
  if (count === 0) return "Nobody waits in line.";
  return count === 1 ? "1 waits in line." : `${count} wait in line.`;
}

/** A place in line, the first being 1. */
export function place(number) {
  if (number === 1) return "You are next in line.";
  const tens = number % 100;
  const end = tens > 10 && tens < 14 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th");
  return `You are ${number}${end} in line.`;
}

/** Text that somebody chose: kept apart from the words around it, whichever way it is written. */
export function apart(text) {
  const element = document.createElement("bdi");
  element.textContent = text;
  return element;
}

/** Somebody, or you. */
export const who = (holder, me) => (holder === me ? "you" : apart(holder));

/** A time that goes on: how long it has been since. */
export function since(text) {
  const element = document.createElement("time");
  element.dateTime = text;
  element.dataset.since = text;
  // A timer is not read out by itself.
  element.setAttribute("role", "timer");
  element.setAttribute("aria-live", "off");
  element.textContent = duration(now() - Date.parse(text));
  return element;
}

/** `Ana has been building (generate) since 12:03, for 1 min 12 s.` */
export function whoBuilds({ holder, operation, lockedAt, acquiredAt }, me) {
  const from = lockedAt ?? acquiredAt;
  const subject = holder === me ? ["You have"] : [apart(holder), " has"];
  return [...subject, " been building (", apart(operation), `) since ${clock(from)}, for `, since(from), "."];
}

/** Says a change to those who listen; what merely goes on is not said. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Says at once what cannot wait. */
export function alarm(text) {
  document.getElementById("alarm").textContent = text;
}

/** The window's title and icon. */
export function title(text, processing) {
  document.title = `${processing ? "● " : ""}${text} – buildlock`;
  const icon = document.getElementById("icon");
  const file = processing ? "/page/processing.svg" : "/page/idle.svg";
  if (icon.getAttribute("href") !== file) icon.href = file;
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-since]")) {
    const text = duration(now() - Date.parse(element.dataset.since));
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
