/**
 * `<edit-shares>`: makes links with which people without a key look at a session, and lists and revokes them.
 *
 * Properties: `remote` (the session), `compared` (the names of two pictures, or none). Event: `closed`.
 */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import { controls } from "./shared-styles.js";
import { icons } from "./icons.js";
import { copy } from "./clipboard.js";

const COPIED = "The link was copied";
const HOUR = 3600;
/** @type {[number, string][]} */
const LIVES = [
  [HOUR, "An hour"],
  [24 * HOUR, "A day"],
  [7 * 24 * HOUR, "A week"],
  [30 * 24 * HOUR, "30 days"],
];

class EditShares extends LitElement {
  static properties = {
    remote: { attribute: false },
    compared: { attribute: false },
    shares: { state: true },
    made: { state: true },
    said: { state: true },
    failure: { state: true },
  };

  static styles = [
    controls,
    css`
      dialog {
        width: min(34rem, calc(100vw - 2rem));
      }
      form,
      dialog > div {
        display: grid;
        gap: var(--gap-4);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-3);
        align-items: end;
      }
      .row > label {
        flex: 1 1 9.5rem;
        min-width: 0;
      }
      section {
        display: grid;
        gap: var(--gap-2);
      }
      h2 {
        font-size: var(--large);
      }
      h3 {
        font-size: var(--body);
      }
      .between {
        display: flex;
        gap: var(--gap-3);
        align-items: center;
        justify-content: space-between;
      }
      li {
        padding-block: var(--gap-1);
        border-block-start: 1px solid var(--line);
        font-size: var(--small);
      }
    `,
  ];

  constructor() {
    super();
    /** Set before it is shown. @type {import("./remote-session.js").RemoteSession} */
    this.remote = /** @type {any} */ (null);
    /** @type {string[]} */
    this.compared = [];
    /** @type {import("./remote-session.js").Share[]} */
    this.shares = [];
    /** The link that was made. */
    this.made = "";
    this.said = "";
    this.failure = "";
  }

  firstUpdated() {
    this.renderRoot.querySelector("dialog")?.showModal();
    this._try(() => this._list());
  }

  /** @param {() => Promise<unknown>} work */
  async _try(work) {
    try {
      await work();
      this.failure = "";
    } catch (error) {
      this.failure = error.message;
    }
  }

  async _list() {
    this.shares = (await this.remote.request("GET", "/shares")).data;
  }

  /** @param {SubmitEvent} event */
  _make(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const pictures = form.get("what") === "pictures" ? { pictures: this.compared } : {};
    return this._try(async () => {
      const { url } = await this.remote.request("POST", "/shares", { expires_in_s: Number(form.get("life")), ...pictures });
      this.made = location.origin + url;
      this.said = "The link was made";
      await this._list();
      this.renderRoot.querySelector("input")?.select();
    });
  }

  /** @param {import("./remote-session.js").Share} share */
  _revoke(share) {
    return this._try(async () => {
      await this.remote.request("DELETE", `/shares/${share.id}`);
      if (this.made.includes(`/${share.id}.`)) this.made = "";
      this.said = "The link was revoked";
      await this._list();
    });
  }

  _copy() {
    return this._try(async () => {
      await copy(this.made, /** @type {Element} */ (this.renderRoot.querySelector("dialog")));
      this.said = COPIED;
    });
  }

  render() {
    const close = () => this.renderRoot.querySelector("dialog")?.close();
    return html`<dialog aria-label="Share" @close=${() => this.dispatchEvent(new Event("closed"))}>
      <div>
        <div class="between">
          <h2>Share</h2>
          <button class="quiet" aria-label="Close" @click=${close}>${icons.close}</button>
        </div>
        <p class="small soft">People with the link see it without a key, and change nothing.</p>
        <form @submit=${this._make}>
          <div class="row">
            <label><span>What is shared</span>
              <select name="what">
                <option value="session">The session</option>
                ${this.compared.length ? html`<option value="pictures">These two pictures</option>` : nothing}
              </select>
            </label>
            <label><span>Valid for</span>
              <select name="life">
                ${LIVES.map(([life, name]) => html`<option value=${life} ?selected=${life === LIVES[2][0]}>${name}</option>`)}
              </select>
            </label>
            <button class="primary">Make link</button>
          </div>
        </form>
        ${this.made
          ? html`<div class="row">
              <label><span>Link, shown only now</span><input readonly .value=${this.made} /></label>
              <button @click=${this._copy}>${this.said === COPIED ? html`${icons.check}Copied` : "Copy"}</button>
            </div>`
          : nothing}
        ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
        ${this.shares.length ? this._links() : nothing}
        <p class="hidden-label" role="status">${this.said}</p>
      </div>
    </dialog>`;
  }

  _links() {
    const time = (/** @type {number} */ at) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    return html`<section>
      <h3>Links that work</h3>
      <ul>
        ${this.shares.map((share) => {
          return html`<li class="between">
            <span>${contents(share)}, until ${time(share.expires_at)}</span>
            <button class="danger quiet" aria-label="Revoke the link until ${time(share.expires_at)}" @click=${() => this._revoke(share)}>
              Revoke
            </button>
          </li>`;
        })}
      </ul>
    </section>`;
  }
}

/** @param {import("./remote-session.js").Share} share */
function contents({ pictures }) {
  if (!pictures.length) return "The session";
  return pictures.map(({ name }) => (name === "source" ? "the source" : `turn ${name.replace(/\/1$/, "").replace("/", ", candidate ")}`)).join(" and ");
}

customElements.define("edit-shares", EditShares);
