/** `<edit-shared>`: what a link shows to people without a key: a session, or two of its pictures. Property: `share`, its token. */
import { LitElement, css, html } from "./lit/lit.js";
import { RemoteSession } from "./remote-session.js";
import { controls } from "./shared-styles.js";
import "./session.js";

class EditShared extends LitElement {
  static properties = { share: { type: String }, about: { state: true }, failure: { state: true } };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        min-height: 0;
      }
      .comparison {
        display: grid;
        grid-template-rows: auto minmax(0, 1fr);
        height: calc(100dvh - var(--header));
      }
      .head {
        display: flex;
        gap: var(--gap-4);
        align-items: center;
        padding: var(--gap-3) clamp(0.75rem, 2vw, 1.5rem);
        background: var(--surface);
      }
      h1 {
        font-size: var(--large);
        font-weight: 600;
      }
      .state {
        padding: 0.125rem 0.625rem;
        border-radius: 1rem;
        background: var(--raised);
        font-size: var(--small);
        font-weight: 550;
        white-space: nowrap;
      }
    `,
  ];

  constructor() {
    super();
    this.share = "";
    /** @type {import("./remote-session.js").Share | null} */
    this.about = null;
    this.failure = "";
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if (changed.has("share")) this._ask();
  }

  async _ask() {
    try {
      this.failure = "";
      if (this.share.split(".").length !== 3) throw new Error("this link is not valid: it was not copied whole");
      this.about = await new RemoteSession({ share: this.share }).share();
    } catch (error) {
      this.failure = error.message;
    }
  }

  render() {
    if (this.failure) return html`<edit-notice .text=${this.failure} @again=${this._ask}></edit-notice>`;
    if (!this.about) return html`<div class="skeleton"></div>`;
    if (!this.about.pictures.length) return html`<edit-session page .share=${this.share}></edit-session>`;
    return html`<div class="comparison">
      <div class="head"><span class="state">Read only</span><h1>Two pictures of a session</h1></div>
      <edit-compare .share=${this.share}></edit-compare>
    </div>`;
  }
}

customElements.define("edit-shared", EditShared);
