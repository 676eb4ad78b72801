/**
 * The public REST API, as docs/api.md describes it. Requests go to this server; a browser that is signed in sends its cookie.
 *
 * @typedef {{semantic: number, quality: number, overall: number}} Scores
 * @typedef {{id: string, status: string, instruction: string, editor: string, strategy: string, created_at: number,
 *   finish_reason: string | null, scores: Scores | null, source: {url: string, width: number, height: number},
 *   best: {turn: number, candidate: number} | null, totals: {turns: number, edits: number}}} Listed
 */

/** An error that the server answered, or that kept it from answering. */
export class ApiError extends Error {
  /** @param {number} status 0 without an answer  @param {{message?: string, code?: string, param?: string}} error */
  constructor(status, error) {
    super(error.message || `the server answered ${status}`);
    this.status = status;
    this.code = error.code || "";
    this.param = error.param || "";
  }
}

/**
 * One request; its JSON, or null for an answer without a body.
 * @param {string} method @param {string} path @param {RequestInit} [options]
 */
async function request(method, path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { method, ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. Check the connection and try again.", code: "unreachable" });
  }
  const text = await reply.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(reply.status, { message: `The answer (${reply.status}) is not this API's; is a proxy in between?` });
  }
  if (!reply.ok) {
    if (reply.status === 401) dispatchEvent(new Event("signed-out"));
    throw new ApiError(reply.status, body?.error ?? {});
  }
  return body;
}

/** @param {string} path @param {object} body @param {RequestInit} [options] */
const post = (path, body, options = {}) =>
  request("POST", path, { headers: { "content-type": "application/json" }, body: JSON.stringify(body), ...options });

/** The path of a session. @param {string} id */
export const pathOf = (id) => `/v1/sessions/${encodeURIComponent(id)}`;

export const whoami = () => request("GET", "/v1/sign_in");
/** @param {string} key an API key; it is kept nowhere */
export const signIn = (key) => request("POST", "/v1/sign_in", { headers: { authorization: `Bearer ${key}` } });
export const signOut = () => request("DELETE", "/v1/sign_in");
export const models = () => request("GET", "/v1/models");
/** @param {string} id */
export const session = (id) => request("GET", pathOf(id));
/** @param {string} id */
export const cancel = (id) => request("POST", `${pathOf(id)}/cancel`);
/** @param {string} id */
export const remove = (id) => request("DELETE", pathOf(id));
/** @param {string} id @param {object} body as docs/api.md: action, turn, candidate, instruction @param {RequestInit} [options] */
export const feedback = (id, body, options) => post(`${pathOf(id)}/feedback`, body, options);

/**
 * A page of sessions, the newest first.
 * @param {{limit?: number, cursor?: string | null, status?: string}} query @param {AbortSignal} [signal]
 * @returns {Promise<{data: Listed[], next_cursor: string | null}>}
 */
export function list({ limit = 100, cursor, status }, signal) {
  const query = new URLSearchParams({ limit: String(limit), ...(cursor ? { cursor } : {}), ...(status ? { status } : {}) });
  return request("GET", `/v1/sessions?${query}`, { signal });
}

/** @param {FormData} form @param {string} key repeats of the same request under one key make one session */
export const create = (form, key) => request("POST", "/v1/sessions", { body: form, headers: { "idempotency-key": key } });

/**
 * Follow a session's events until it is finished; after a break each event still comes once, and in order.
 * @param {string} id
 * @param {{event: (event: object) => void, reset: () => void, link: (state: "open" | "lost" | "closed") => void}} on
 * @returns {() => void} stops following
 */
export function follow(id, on) {
  const stream = new EventSource(`${pathOf(id)}/events`);
  stream.onopen = () => on.link("open");
  stream.onerror = () => on.link(stream.readyState === EventSource.CLOSED ? "closed" : "lost");
  const receive = (/** @type {MessageEvent} */ message) => {
    on.event(JSON.parse(message.data));
    if (message.type === "finished") stream.close();
  };
  for (const type of EVENT_TYPES) stream.addEventListener(type, receive);
  stream.addEventListener("reset", () => on.reset());
  return () => stream.close();
}

/** The types of events, as in orchestrator/loop/events.py; a test compares them. */
export const EVENT_TYPES = [
  ...["session_created", "prepared", "prepare_failed", "turn_started", "edit_started", "edited", "edit_failed"],
  ...["previewed", "preview_critiqued", "preview_failed", "edit_rejected", "critiqued", "critique_failed", "verified"],
  ...["verify_failed", "compared", "compare_failed", "refined", "refine_failed", "checklist_made", "checklist_failed"],
  ...["review_requested", "feedback_given", "cancel_requested", "finished"],
];
