/** The base of the elements that show a session, which any page may have. */
import { LitElement } from "./lit/lit.js";
import { RemoteSession } from "./remote-session.js";

const ADDRESS = {
  sessionId: { type: String, attribute: "session-id" },
  share: { type: String },
  server: { type: String },
  key: { attribute: false },
};

/**
 * Told a session by the attribute `share`, or by `session-id` and perhaps the property `key`, a function that gives an API key;
 * `server` if it is another than that of this module.
 */
export class SessionElement extends LitElement {
  /** @type {Record<string, object>} */
  static properties = { ...ADDRESS, remote: { attribute: false } };

  constructor() {
    super();
    this.sessionId = "";
    this.share = "";
    this.server = "";
    /** @type {import("./remote-session.js").Key | null} */
    this.key = null;
    /** Where the session is. @type {RemoteSession | null} */
    this.remote = null;
    this._stop = () => {};
    // A picture is there.
    this._fetched = () => this.requestUpdate();
  }

  connectedCallback() {
    super.connectedCallback();
    // Moved to another place of the page: it stopped following.
    if (this.hasUpdated) this.reopen();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this._stop();
  }

  /** Ask for the session again. */
  reopen() {
    this.requestUpdate("server", null);
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if ((this.share || this.sessionId) && Object.keys(ADDRESS).some((name) => changed.has(name))) this._open();
    if (!changed.has("remote")) return;
    /** @type {RemoteSession | null | undefined} */ (changed.get("remote"))?.removeEventListener("change", this._fetched);
    this.remote?.addEventListener("change", this._fetched);
  }

  _open() {
    this._stop();
    const { sessionId: id, share, server, key } = this;
    const remote = new RemoteSession({ id, server, share, key });
    this.remote = remote;
    const leave = this.opened(remote);
    this._stop = () => {
      leave();
      remote.release();
    };
  }

  /** Begin to follow a session. @param {RemoteSession} _remote @returns {() => void} stops following */
  opened(_remote) {
    return () => {};
  }
}
