/** `<edit-sign-in>`: exchanges an API key for a cookie. `<edit-notice>`: what went wrong, with a way to try again. */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";

const centred = css`
  :host {
    display: grid;
    place-items: center;
    padding: var(--gap-5);
  }
  .card {
    display: grid;
    gap: var(--gap-4);
    width: min(24rem, 100%);
  }
  h1 {
    font-size: var(--large);
    letter-spacing: -0.01em;
  }
`;

class EditSignIn extends LitElement {
  static properties = { failure: { state: true }, busy: { state: true } };
  static styles = [controls, centred];

  constructor() {
    super();
    this.failure = "";
    this.busy = false;
  }

  /** @param {SubmitEvent} event */
  async _submit(event) {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (this.renderRoot.querySelector("input"));
    this.busy = true;
    this.failure = "";
    try {
      await api.signIn(field.value.trim());
      field.value = "";
      this.dispatchEvent(new Event("signed-in"));
    } catch (error) {
      this.failure = error.message;
      field.focus();
    }
    this.busy = false;
  }

  render() {
    return html`<form class="card" @submit=${this._submit}>
      <h1>Sign in</h1>
      <p class="soft">This server needs an API key. The browser keeps a sign-in of twelve hours, and not the key.</p>
      <label><span>API key</span><input type="password" name="key" autocomplete="off" placeholder="et_…" required autofocus /></label>
      ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
      <button class="primary" ?disabled=${this.busy}>Sign in</button>
    </form>`;
  }
}

class EditNotice extends LitElement {
  static properties = { text: { type: String } };
  static styles = [controls, centred];

  constructor() {
    super();
    this.text = "";
  }

  render() {
    return html`<div class="card">
      <p class="error" role="alert">${this.text}</p>
      <button @click=${() => this.dispatchEvent(new Event("again"))}>Try again</button>
    </div>`;
  }
}

customElements.define("edit-sign-in", EditSignIn);
customElements.define("edit-notice", EditNotice);
