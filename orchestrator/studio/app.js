/** `<edit-studio>`: the page. It knows who is signed in, and shows the screen that the path names. */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";
import { navigate } from "./navigation.js";
import "./start.js";
import "./session.js";
import "./gallery.js";
import "./sign-in.js";

const SCREENS = [
  { path: "/studio", name: "New edit" },
  { path: "/studio/sessions", name: "Sessions" },
];

class EditStudio extends LitElement {
  static properties = { path: { state: true }, who: { state: true }, failure: { state: true }, lost: { state: true } };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        grid-template-rows: auto minmax(0, 1fr);
        min-height: 100dvh;
      }
      header {
        display: flex;
        gap: var(--gap-2) var(--gap-5);
        align-items: center;
        height: var(--header);
        padding: 0 clamp(0.75rem, 2vw, 1.5rem);
        border-block-end: 1px solid var(--line);
        background: var(--surface);
      }
      .mark {
        display: flex;
        gap: var(--gap-2);
        align-items: center;
        font-weight: 650;
        letter-spacing: -0.01em;
        text-decoration: none;
      }
      .mark svg {
        width: 1.5rem;
        height: 1.5rem;
      }
      nav {
        display: flex;
        gap: var(--gap-1);
        margin-inline-end: auto;
      }
      nav a {
        padding: 0.375rem var(--gap-3);
        border-radius: var(--radius-small);
        color: var(--text-soft);
        font-size: var(--small);
        font-weight: 550;
        text-decoration: none;
        white-space: nowrap;
      }
      nav a:hover {
        background: var(--raised);
      }
      nav a[aria-current="page"] {
        background: var(--raised);
        color: var(--text);
      }
      .who {
        display: flex;
        gap: var(--gap-2);
        align-items: center;
        min-width: 0;
        font-size: var(--small);
      }
      .who span {
        overflow: hidden;
        text-overflow: ellipsis;
      }
      main {
        display: grid;
        min-height: 0;
        min-width: 0;
      }
      .skip {
        position: absolute;
        top: -4rem;
        z-index: 9;
      }
      .skip:focus {
        top: var(--gap-2);
        left: var(--gap-2);
      }
      @media (max-width: 30rem) {
        .mark span,
        .who span {
          display: none;
        }
      }
    `,
  ];

  constructor() {
    super();
    this.path = location.pathname;
    /** @type {{key_required: boolean, tenant: string, scopes: string[]} | null} */
    this.who = null;
    this.failure = "";
    this.lost = false;
  }

  connectedCallback() {
    super.connectedCallback();
    addEventListener("popstate", () => this._arrived());
    addEventListener("signed-out", () => (this.lost = true));
    this._recognise();
  }

  async _recognise() {
    this.failure = "";
    try {
      this.who = await api.whoami();
      this.lost = false;
    } catch (error) {
      if (!(error instanceof api.ApiError) || error.status !== 401) this.failure = error.message;
    }
  }

  _arrived() {
    const apply = () => {
      this.path = location.pathname;
      return this.updateComplete;
    };
    if (document.startViewTransition && !matchMedia("(prefers-reduced-motion: reduce)").matches) document.startViewTransition(apply);
    else apply();
    scrollTo(0, 0);
  }

  async _signOut() {
    await api.signOut().catch(() => {});
    this.who = null;
    this.lost = true;
  }

  render() {
    return html`
      <header>
        <button class="skip" @click=${() => this.renderRoot.querySelector("main").focus()}>Skip to content</button>
        <a class="mark" href="/studio" @click=${navigate} aria-label="EditThinker Studio">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" fill="currentColor" />
            <path d="M7 9.5A2.5 2.5 0 0 1 9.5 7H16v18H9.5A2.5 2.5 0 0 1 7 22.5z" fill="var(--surface)" />
            <path d="M16 7h6.5A2.5 2.5 0 0 1 25 9.5v13a2.5 2.5 0 0 1-2.5 2.5H16z" fill="#f59e0b" />
          </svg>
          <span>EditThinker</span>
        </a>
        <nav aria-label="Screens">
          ${SCREENS.map(
            ({ path, name }) =>
              html`<a href=${path} @click=${navigate} aria-current=${this.path === path ? "page" : nothing}>${name}</a>`,
          )}
        </nav>
        ${this.who?.key_required && !this.lost
          ? html`<div class="who"><span class="soft">${this.who.tenant}</span><button @click=${this._signOut}>Sign out</button></div>`
          : nothing}
      </header>
      <main id="main" tabindex="-1">${this._screen()}</main>
    `;
  }

  _screen() {
    if (this.failure) return html`<edit-notice .text=${this.failure} @again=${this._recognise}></edit-notice>`;
    if (this.lost) return html`<edit-sign-in @signed-in=${this._recognise}></edit-sign-in>`;
    if (!this.who) return nothing;
    const { scopes } = this.who;
    const may = { edit: scopes.includes("edit") || scopes.includes("admin"), read: scopes.includes("read") || scopes.includes("admin") };
    const session = this.path.match(/^\/studio\/sessions\/([^/]+)$/);
    if (session) return html`<edit-session .sessionId=${decodeURIComponent(session[1])} .may=${may}></edit-session>`;
    if (this.path === "/studio/sessions") return html`<edit-gallery .may=${may}></edit-gallery>`;
    return html`<edit-start .may=${may}></edit-start>`;
  }
}

customElements.define("edit-studio", EditStudio);
