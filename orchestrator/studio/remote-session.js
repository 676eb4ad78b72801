/**
 * One session on a server, and how this page may look at it: by the browser's sign-in, by a share, or by an API key.
 *
 * A key is asked for before each request and kept nowhere. Since `<img>` and `EventSource` send no header, pictures and events are
 * then fetched.
 *
 * @typedef {import("./state.js").Session} Session
 * @typedef {import("./state.js").Event} Event
 * @typedef {() => string | Promise<string>} Key gives an API key
 * @typedef {"open" | "lost" | "closed"} Link
 * @typedef {{event: (event: Event) => void, reset: () => void, link: (state: Link) => void}} Listener
 * @typedef {{id: string, created_at: number, expires_at: number,
 *   pictures: {name: string, image: {url: string, width: number, height: number}}[]}} Share
 */
import { EVENT_TYPES, pathOf, request } from "./api.js";
import { apply, begin } from "./state.js";

/** The server that these modules are from; empty if it is the page's own. */
const HOME = new URL(import.meta.url).origin === location.origin ? "" : new URL(import.meta.url).origin;
const RECONNECT_MS = 1000;

export class RemoteSession extends EventTarget {
  /** @param {{id?: string, server?: string, share?: string, key?: Key | null}} where */
  constructor({ id = "", server = "", share = "", key = null }) {
    super();
    const [shareId, sharedSession] = share.split(".");
    this.id = id || sharedSession || "";
    this.shareId = shareId;
    this._server = server || HOME;
    this._share = share;
    this._key = key;
    /** Pictures that were fetched, as URLs of this page. @type {Map<string, string>} */
    this._fetched = new Map();
  }

  /** Whether it is seen by a share, and so cannot be changed. */
  get shared() {
    return !!this._share;
  }

  /** The URL of one of its resources. @param {string} [part] as `/events` or `/source` @param {Record<string, string>} [query] */
  url(part = "", query = {}) {
    const asked = new URLSearchParams({ ...query, ...(this._share ? { share: this._share } : {}) }).toString();
    return `${this._server}${pathOf(this.id)}${part}${asked && `?${asked}`}`;
  }

  /** @param {string} method @param {string} [part] @param {object} [body] @param {RequestInit} [options] */
  async request(method, part = "", body = undefined, options = {}) {
    const json = body && { body: JSON.stringify(body) };
    const headers = { ...(await this._headers()), ...(body ? { "content-type": "application/json" } : {}) };
    return request(method, this.url(part), { ...options, ...json, headers }, { page: !this._share && !this._key });
  }

  /** What the caller may do with it. @returns {Promise<{edit: boolean, read: boolean}>} */
  async may() {
    if (!this._key) return { edit: !this.shared, read: true };
    const { scopes } = await request("GET", `${this._server}/v1/sign_in`, { headers: await this._headers() }, { page: false });
    const has = (/** @type {string} */ scope) => scopes.includes(scope) || scopes.includes("admin");
    return { edit: has("edit"), read: has("read") };
  }

  /** The share by which it is seen. @returns {Promise<Share>} */
  share() {
    return this.request("GET", `/shares/${this.shareId}`);
  }

  /**
   * The URL of a picture for `<img>`: empty until it was fetched, where that is needed; the event `change` tells when it was.
   * @param {string} part @param {Record<string, string>} [query]
   */
  picture(part, query = {}) {
    const url = this.url(part, query);
    if (!this._key) return url;
    if (!this._fetched.has(url)) {
      this._fetched.set(url, "");
      this._fetch(url);
    }
    return this._fetched.get(url) ?? "";
  }

  /** @param {string} url */
  async _fetch(url) {
    const reply = await fetch(url, { headers: await this._headers() }).catch(() => null);
    if (!reply?.ok) return;
    this._fetched.set(url, URL.createObjectURL(await reply.blob()));
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Let go of the pictures that were fetched. */
  release() {
    for (const url of this._fetched.values()) if (url) URL.revokeObjectURL(url);
    this._fetched.clear();
  }

  /** @returns {Promise<Record<string, string>>} */
  async _headers() {
    return this._key ? { authorization: `Bearer ${await this._key()}` } : {};
  }

  /** Follow its events until it is finished; after a break each event still comes once, and in order. @param {Listener} on */
  follow(on) {
    if (this._key) return this._followFetched(on);
    const stream = new EventSource(this.url("/events"));
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

  /** @param {Listener} on */
  _followFetched(on) {
    const stop = new AbortController();
    const read = async () => {
      for (let last = 0; !stop.signal.aborted; await new Promise((done) => setTimeout(done, RECONNECT_MS))) {
        try {
          const headers = { ...(await this._headers()), ...(last ? { "last-event-id": String(last) } : {}) };
          const reply = await fetch(this.url("/events"), { headers, signal: stop.signal });
          if (!reply.ok || !reply.body || reply.status === 204) return on.link("closed");
          on.link("open");
          for await (const event of eventsOf(reply.body)) {
            if (event.type === "reset") {
              last = 0;
              on.reset();
              break;
            }
            last = event.seq;
            on.event(event);
            if (event.type === "finished") return undefined;
          }
        } catch {
          // The connection broke, or the caller left.
        }
        if (!stop.signal.aborted) on.link("lost");
      }
      return undefined;
    };
    read();
    return () => stop.abort();
  }

  /**
   * Follow the session itself: its state, or why there is none. Events that come together are one change: the states in between
   * would ask for pictures that are not looked at.
   * @param {(state: Session | null, failure: string) => void} show @param {(link: Link) => void} [linked]
   */
  watch(show, linked) {
    /** @type {Session | null} */
    let state = null;
    let due = 0;
    const tell = () => {
      due = 0;
      show(state, "");
    };
    const stop = this.follow({
      event: (event) => {
        state = state ? apply(state, event) : begin(event);
        due ||= setTimeout(tell);
      },
      reset: () => (state = null),
      link: (link) => {
        linked?.(link);
        // The stream says no more than that it was refused.
        if (link === "closed" && !state?.finished) this.request("GET").catch((error) => show(state, error.message));
      },
    });
    return () => {
      clearTimeout(due);
      stop();
    };
  }
}

/** The events of a stream of server-sent events, which have no newline in their data. @param {ReadableStream<Uint8Array>} body */
async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const data = part.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice("data: ".length));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
