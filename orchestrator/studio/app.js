/** `<edit-studio>`: the page. It knows who is signed in, and shows the screen that the path names. */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";
import { navigate } from "./navigation.js";
import "./sign-in.js";

const SCREENS = [
  { path: "/studio", name: "New edit" },
  { path: "/studio/sessions", name: "Sessions" },
  { path: "/studio/blind", name: "Blind A/B" },
  { path: "/studio/operator", name: "Operator", scope: "admin" },
];

/** The script of the screen at a path; each is loaded when it is first shown. @param {string} path */
function load(path) {
  if (path.startsWith("/studio/sessions/")) return import("./session.js");
  if (path.startsWith("/studio/shared/")) return import("./shared.js");
  /** @type {Record<string, () => Promise<unknown>>} */
  const scripts = {
    "/studio/sessions": () => import("./gallery.js"),
    "/studio/blind": () => import("./blind.js"),
    "/studio/operator": () => import("./operator.js"),
  };
  return (scripts[path] ?? (() => import("./start.js")))();
}

class EditStudio extends LitElement {
  static properties = { path: { state: true }, who: { state: true }, failure: { state: true }, lost: { state: true } };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        grid-template: auto minmax(0, 1fr) / minmax(0, 1fr);
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
        min-width: 0;
        margin-inline-end: auto;
        overflow-x: auto;
        scrollbar-width: none;
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
        header {
          gap: var(--gap-2);
        }
        nav {
          gap: 0;
        }
        nav a {
          padding-inline: 0.375rem;
          font-size: 0.75rem;
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
    // Guests need no key, and nothing says who they are. The screen comes at the same time as who is signed in.
    const screen = this._load();
    if (this._token) return;
    try {
      const who = await api.whoami();
      await screen;
      this.who = who;
      this.lost = false;
    } catch (error) {
      if (!(error instanceof api.ApiError) || error.status !== 401) this.failure = error.message;
    }
  }

  /** The token of a share, if the path is that of its page. */
  get _token() {
    return this.path.match(/^\/studio\/shared\/(.+)$/)?.[1] ?? "";
  }

  /** Load the screen of this path; where that fails, the page has to be loaded again: the server may have another version. */
  _load() {
    return load(location.pathname).catch(() => (this.failure = "This screen could not be loaded. Load the page again."));
  }

  async _arrived() {
    await this._load();
    this.path = location.pathname;
    if (!this.who) this._recognise();
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
        <button class="skip" @click=${() => this.renderRoot.querySelector("main")?.focus()}>Skip to content</button>
        <a class="mark" href="/studio" @click=${navigate} aria-label="EditThinker Studio">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" fill="currentColor" />
            <path d="M7 9.5A2.5 2.5 0 0 1 9.5 7H16v18H9.5A2.5 2.5 0 0 1 7 22.5z" fill="var(--surface)" />
            <path d="M16 7h6.5A2.5 2.5 0 0 1 25 9.5v13a2.5 2.5 0 0 1-2.5 2.5H16z" fill="#f59e0b" />
          </svg>
          <span>EditThinker</span>
        </a>
        <nav aria-label="Screens">
          ${(this._token ? [] : SCREENS.filter(({ scope }) => !scope || this.who?.scopes.includes(scope))).map(
            ({ path, name }) =>
              html`<a href=${path} @click=${navigate} aria-current=${this.path === path ? "page" : nothing}>${name}</a>`,
          )}
        </nav>
        ${this.who?.key_required && !this.lost && !this._token
          ? html`<div class="who"><span class="soft">${this.who.tenant}</span><button @click=${this._signOut}>Sign out</button></div>`
          : nothing}
      </header>
      <main id="main" tabindex="-1">${this._screen()}</main>
    `;
  }

  _screen() {
    if (this._token) return html`<edit-shared .share=${this._token}></edit-shared>`;
    if (this.failure) return html`<edit-notice .text=${this.failure} @again=${this._recognise}></edit-notice>`;
    if (this.lost) return html`<edit-sign-in @signed-in=${this._recognise}></edit-sign-in>`;
    const scopes = this.who?.scopes ?? [];
    const may = { edit: scopes.includes("edit") || scopes.includes("admin"), read: scopes.includes("read") || scopes.includes("admin") };
    const session = this.path.match(/^\/studio\/sessions\/([^/]+)$/);
    // It is seen as early as possible, and steered once it is known by whom.
    if (session) return html`<edit-session page .sessionId=${decoded(session[1])} .may=${may}></edit-session>`;
    if (!this.who) return nothing;
    if (this.path === "/studio/sessions") return html`<edit-gallery .may=${may}></edit-gallery>`;
    if (this.path === "/studio/blind") return html`<edit-blind .may=${may}></edit-blind>`;
    if (this.path === "/studio/operator" && scopes.includes("admin")) return html`<edit-operator></edit-operator>`;
    return html`<edit-start .may=${may}></edit-start>`;
  }
}

/** @param {string} part of a path; one that is no encoding of a text is shown as it is */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

customElements.define("edit-studio", EditStudio);
