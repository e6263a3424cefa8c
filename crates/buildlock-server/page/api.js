// The HTTP API as the page uses it. Every call of the page goes through here.

/** How a request failed: the server's problem details, or that it could not be reached. */
export class Problem extends Error {
  constructor({ status = 0, code = "UNREACHABLE", detail = "The server cannot be reached.", lock = null, field = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, lock, field });
  }

  /** Whether the same request may succeed a little later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

// How far the store's clock is ahead of this one's, in milliseconds.
let ahead = 0;

/** Now, by the store's clock. */
export const now = () => Date.now() + ahead;

const heard = (answer) => {
  // The store's time, to the millisecond; the times in the answer are to be read against it.
  const time = Date.parse(answer.headers.get("buildlock-time") ?? "");
  if (!Number.isNaN(time)) ahead = time - Date.now();
};

/**
 * Sends a request and answers with the response.
 * @throws {Problem} unless the answer is a success
 */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const request = { method, headers: { accept: "application/json", ...headers }, signal, cache: "no-store" };
  if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({});
  }
  heard(answer);
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Problem({ ...problem, status: answer.status, code: problem.code ?? `HTTP_${answer.status}`,
    detail: problem.detail ?? `The server answered with status ${answer.status}.` });
}

/** Reads JSON. */
export const get = async (path, options) => (await send("GET", path, options)).json();

const MESSAGE_CHARS = 120;

const query = (parameters) => new URLSearchParams(parameters).toString();

// A browser takes a segment of one or two dots out of a path, encoded or not; a character that no id has
// guards it.
const GUARD = "\u007f";

const segment = (project) => encodeURIComponent(/^\.\.?$/.test(project) ? project + GUARD : project);

/** Where the page of a project is. */
export const pageOf = (project) => `/build/${segment(project)}`;

/** The project that a path of the page names; null if it names none. */
export function projectOf(path) {
  try {
    return decodeURIComponent(path.slice("/build/".length)).replace(GUARD, "") || null;
  } catch {
    return null;
  }
}

/** Who the caller is. */
export const me = () => get("/v1/me");

export const signOut = () => send("POST", "/v1/sign-out");

export const projects = (limit) => get(`/v1/projects?${query({ limit })}`);

/** A project; null if there is none, or none that the caller may see. */
export async function project(id) {
  try {
    return await get(`/v1/projects/${segment(id)}`);
  } catch (error) {
    if (error.code === "PROJECT_NOT_FOUND") return null;
    throw error;
  }
}

/** A project's newest builds, newest first; none of a project that does not exist yet. */
export async function builds(project) {
  try {
    return (await get(`/v1/builds?${query({ project, limit: 20 })}`)).builds;
  } catch (error) {
    if (error.code === "PROJECT_NOT_FOUND") return [];
    throw error;
  }
}

export const build = (id) => get(`/v1/builds/${id}`);

/**
 * Starts a build; answers when it runs, which with `wait` (in seconds) is when its turn has come. To
 * send it again with the same `key` keeps the place in line; to abort it gives the place up.
 */
export async function start({ project, operation, prompt, wait, key, signal }) {
  // What those see who find the project busy.
  const message = Array.from(prompt.replace(/[\s\p{Cc}]+/gu, " ").trim()).slice(0, MESSAGE_CHARS).join("");
  const body = { projectId: project, operation, prompt, message };
  if (wait) body.wait = wait;
  const answer = await send("POST", "/v1/builds", {
    body,
    headers: { prefer: "respond-async", "idempotency-key": key },
    signal,
  });
  return answer.json();
}

/** Takes a request back that waits in line. If that fails, its place goes by itself a little later. */
export async function withdraw(project, key) {
  await send("DELETE", `/v1/projects/${segment(project)}/lock/requests/${key}`).catch(() => {});
}

export const cancel = (id) => send("POST", `/v1/builds/${id}/cancel`);

/** Where to follow what happens to projects, and the names of its events. */
export const EVENTS = "/v1/events";
export const EVENT_NAMES = ["created", "deleted", "queued", "left", "dropped", "granted", "unlocked", "force_unlocked",
  "expired", "unclaimed", "freed_by_hand", "missed"];

/** Where to follow a build's log from after a line. */
export const logOf = (id, after) => `/v1/builds/${id}/log?${query({ after })}`;

export const siteOf = (project) => `/sites?${query({ project })}`;

/** Whether the project's builds have made a site. */
export async function hasSite(project) {
  try {
    return (await send("HEAD", siteOf(project))).ok;
  } catch {
    return false;
  }
}
