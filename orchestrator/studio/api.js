/**
 * The public REST API, as docs/api.md describes it. Requests go to this server; a browser that is signed in sends its cookie.
 *
 * @typedef {{semantic: number, quality: number, overall: number}} Scores
 * @typedef {{id: string, status: string, instruction: string, editor: string, strategy: string, created_at: number,
 *   finish_reason: string | null, scores: Scores | null, source: {url: string, width: number, height: number},
 *   best: {turn: number, candidate: number} | null, rating?: number, totals: {turns: number, edits: number}}} Listed
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
 * @param {string} method @param {string} path @param {RequestInit & {text?: boolean}} [options] text: its text
 * @param {{page?: boolean}} [by] whether it is made with the browser's sign-in, whose end the page is told
 */
export async function request(method, path, options = {}, { page = true } = {}) {
  let reply;
  try {
    reply = await fetch(path, { method, ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. Check the connection and try again.", code: "unreachable" });
  }
  const text = await reply.text();
  if (options.text && reply.ok) return text;
  let body;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(reply.status, { message: `The answer (${reply.status}) is not this API's; is a proxy in between?` });
  }
  if (!reply.ok) {
    if (reply.status === 401 && page) dispatchEvent(new Event("signed-out"));
    throw new ApiError(reply.status, body?.error ?? {});
  }
  return body;
}

/** The path of a session. @param {string} id */
export const pathOf = (id) => `/v1/sessions/${encodeURIComponent(id)}`;

/** The query for a picture that is reduced to so many pixels (64 to 2048) on its longer side. @param {number} side */
export const smaller = (side) => ({ max_side: String(side), format: "webp", compression: "90" });
/** The address of a picture, reduced. @param {string} url @param {number} side */
export const reduced = (url, side) => `${url}${url.includes("?") ? "&" : "?"}${new URLSearchParams(smaller(side))}`;

export const whoami = () => request("GET", "/v1/sign_in");
/** @param {string} key an API key; it is kept nowhere */
export const signIn = (key) => request("POST", "/v1/sign_in", { headers: { authorization: `Bearer ${key}` } });
export const signOut = () => request("DELETE", "/v1/sign_in");
export const models = () => request("GET", "/v1/models");
/** @param {string} id */
export const session = (id) => request("GET", pathOf(id));
/** @param {string} id */
export const remove = (id) => request("DELETE", pathOf(id));

/**
 * A page of sessions, the newest first.
 * @param {{limit?: number, cursor?: string | null, status?: string}} query @param {AbortSignal} [signal]
 * @returns {Promise<{data: Listed[], next_cursor: string | null}>}
 */
export function list({ limit = 100, cursor, status }, signal) {
  const query = new URLSearchParams({ limit: String(limit), ...(cursor ? { cursor } : {}), ...(status ? { status } : {}) });
  return request("GET", `/v1/sessions?${query}`, { signal });
}

/** A page of votes and ratings, the newest first. @param {string | null} cursor @returns {Promise<{data: any[], next_cursor: string | null}>} */
export const preferences = (cursor) => request("GET", `/v1/preferences?limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
/** Vote, or rate a session. @param {object} body as docs/api.md @param {string} key a repeat under one key is one vote */
export const prefer = (body, key) =>
  request("POST", "/v1/preferences", {
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", "idempotency-key": key },
  });
/** Take back a vote or a rating. @param {string} id */
export const forget = (id) => request("DELETE", `/v1/preferences/${encodeURIComponent(id)}`);

/** What keeps the server from serving edits; it answers 503 with the same body. */
export const ready = () => fetch("/readyz").then((reply) => reply.json());
/** The figures of the replica that answers, as Prometheus' text. @returns {Promise<string>} */
export const metrics = () => request("GET", "/metrics", { text: true });

/** @param {FormData} form @param {string} key repeats of the same request under one key make one session */
export const create = (form, key) => request("POST", "/v1/sessions", { body: form, headers: { "idempotency-key": key } });

/** The types of events, as in orchestrator/loop/events.py; a test compares them. */
export const EVENT_TYPES = [
  ...["session_created", "prepare_started", "prepared", "prepare_failed", "turn_started", "edit_started", "edited", "edit_failed"],
  ...["previewed", "preview_critiqued", "preview_failed", "edit_rejected", "critiqued", "critique_failed", "verified"],
  ...["verify_failed", "compared", "compare_failed", "refined", "refine_failed", "checklist_made", "checklist_failed"],
  ...["review_requested", "feedback_given", "cancel_requested", "finished"],
];
