/**
 * `<edit-gallery>`: all sessions, newest first, with filters, choice of several, and only as many elements as are seen.
 *
 * The server filters by status; text, editor, rating, score and time are filtered here, among what was loaded, and more is loaded until
 * the window is full.
 */
import { LitElement, css, html, nothing, repeat } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";
import { icons } from "./icons.js";
import { navigate } from "./navigation.js";
import { vars } from "./custom-properties.js";

const STATUSES = [
  ["", "All"],
  ["running", "Running"],
  ["awaiting_review", "Waiting for you"],
  ["queued", "Queued"],
  ["succeeded", "Done"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];
const SORTS = [
  ["newest", "Newest first"],
  ["best", "Best score first"],
  ["worst", "Worst score first"],
  ["rated", "Best rated first"],
];
const RATINGS = [["", "Any rating"], ["5", "5 stars"], ["4", "4 stars and more"], ["3", "3 stars and more"], ["1", "Rated"], ["0", "Not rated"]];
const STARS = [1, 2, 3, 4, 5];
const [LEAST_WIDTH, TEXT_HEIGHT, GAP] = [208, 90, 16];
/** Rows that are kept above and below what is seen. */
const SPARE_ROWS = 2;
const REFRESH_MS = 4000;
const FINISHED = ["succeeded", "failed", "cancelled"];

class EditGallery extends LitElement {
  static properties = {
    may: { attribute: false },
    items: { state: true },
    filters: { state: true },
    chosen: { state: true },
    choosing: { state: true },
    busy: { state: true },
    failure: { state: true },
    width: { state: true },
    top: { state: true },
    done: { state: true },
  };

  static styles = [
    controls,
    css`
      :host {
        display: block;
        padding: var(--gap-4) clamp(0.75rem, 2vw, 1.5rem) var(--gap-6);
      }
      .filters {
        display: grid;
        grid-template-columns: minmax(10rem, 1fr) repeat(4, minmax(8rem, 10rem)) auto;
        gap: var(--gap-2);
        margin-block-end: var(--gap-4);
      }
      .chosen {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2);
        align-items: center;
        position: sticky;
        top: var(--gap-2);
        z-index: 2;
        margin-block-end: var(--gap-4);
        padding: var(--gap-2) var(--gap-3);
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--surface);
        box-shadow: var(--shadow);
      }
      .chosen > :first-child {
        margin-inline-end: auto;
      }
      .grid {
        position: relative;
        height: var(--height);
      }
      .card {
        position: absolute;
        top: 0;
        left: 0;
        width: var(--width);
        overflow: hidden;
        contain: content;
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--surface);
        transform: translate(var(--x), var(--y));
      }
      .card:has(a:focus-visible) {
        outline: 2px solid var(--focus);
        outline-offset: 2px;
      }
      .card a {
        display: block;
        outline: none;
        color: inherit;
        text-decoration: none;
      }
      .card a::after {
        content: "";
        position: absolute;
        inset: 0;
      }
      .card:hover {
        border-color: var(--line-strong);
      }
      .picture {
        display: grid;
        place-items: center;
        height: var(--picture);
        overflow: hidden;
        background: var(--stage);
        color: var(--text-soft);
        font-size: var(--small);
      }
      .picture img {
        width: 100%;
        height: var(--picture);
        object-fit: cover;
      }
      .about {
        height: 56px;
        padding: var(--gap-2) var(--gap-3) 0;
        font-size: var(--small);
        line-height: 1.35;
      }
      .words {
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        font-weight: 500;
      }
      .line {
        display: flex;
        gap: var(--gap-2);
        justify-content: space-between;
        margin-block-start: var(--gap-1);
        overflow: hidden;
        color: var(--text-soft);
        font-size: 0.75rem;
        white-space: nowrap;
      }
      .stars {
        display: flex;
        position: relative;
        z-index: 1;
        width: max-content;
        height: 32px;
        padding-inline: var(--gap-2);
      }
      .stars button {
        width: 26px;
        min-height: 28px;
        padding: 0;
        border: 0;
        background: none;
        color: var(--line-strong);
        font-size: 1.125rem;
        line-height: 1;
      }
      .stars .on {
        color: var(--accent);
      }
      .line > * {
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .line time {
        flex: none;
      }
      .card input {
        position: absolute;
        top: var(--gap-3);
        left: var(--gap-3);
        z-index: 1;
        width: 1.375rem;
        height: 1.375rem;
      }
      .badge {
        position: absolute;
        top: var(--gap-2);
        right: var(--gap-2);
        padding: 0 0.4rem;
        border-radius: var(--radius-small);
        background: #131314cc;
        color: #fff;
        font-size: 0.75rem;
        font-weight: 600;
        pointer-events: none;
      }
      .empty {
        display: grid;
        gap: var(--gap-4);
        justify-items: center;
        padding: 12vh var(--gap-4);
        text-align: center;
      }
      @media (max-width: 30rem) {
        .turns {
          display: none;
        }
      }
      @media (max-width: 48rem) {
        .filters {
          grid-template-columns: 1fr 1fr;
        }
        .filters > :first-child,
        .filters > :last-child {
          grid-column: 1 / -1;
        }
      }
    `,
  ];

  constructor() {
    super();
    this.may = { edit: true, read: true };
    /** @type {api.Listed[]} */
    this.items = [];
    this.filters = { text: "", status: "", editor: "", rating: "", sort: "newest" };
    /** @type {Set<string>} */
    this.chosen = new Set();
    this.choosing = false;
    this.busy = false;
    this.failure = "";
    this.width = 0;
    this.top = 0;
    this.done = false;
    /** @type {string | null} */
    this._cursor = null;
    /** @type {string[]} */
    this._editors = [];
    this._abort = new AbortController();
    this._resized = new ResizeObserver(() => this._measure());
    this._scrolled = () => this._measure();
  }

  connectedCallback() {
    super.connectedCallback();
    document.title = "Sessions · EditThinker";
    this._resized.observe(this);
    addEventListener("scroll", this._scrolled, { passive: true });
    this._clock = setInterval(() => this._refresh(), REFRESH_MS);
    this._reload();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this._abort.abort();
    this._resized.disconnect();
    removeEventListener("scroll", this._scrolled);
    clearInterval(this._clock);
  }

  _measure() {
    const grid = this.renderRoot.querySelector(".grid");
    if (!grid) return;
    const box = grid.getBoundingClientRect();
    this.width = box.width;
    // Whole rows, so that a scroll of a few pixels renders nothing.
    this.top = Math.max(0, Math.floor(-box.top / this._layout.row));
    this._fill();
  }

  /** Columns, and the size of a card, in CSS pixels. */
  get _layout() {
    // Larger on a wide screen, so that the pictures are seen.
    const least = Math.min(1.5 * LEAST_WIDTH, Math.max(LEAST_WIDTH, this.width / 8));
    const columns = Math.max(this.width < 480 ? 2 : 1, Math.floor((this.width + GAP) / (least + GAP)));
    const width = (this.width - GAP * (columns - 1)) / columns;
    const picture = Math.round(width * 0.75);
    return { columns, width, picture, row: picture + TEXT_HEIGHT + GAP };
  }

  get _shown() {
    const { text, editor, rating, sort } = this.filters;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (/** @type {api.Listed} */ each) =>
      (!editor || each.editor === editor) && (!rating || (rating === "0" ? !each.rating : (each.rating ?? 0) >= Number(rating))) && words.every((word) => `${each.instruction} ${each.id}`.toLowerCase().includes(word));
    const found = words.length || editor || rating ? this.items.filter(matches) : this.items;
    if (sort === "newest") return found;
    if (sort === "rated") return [...found].sort((one, other) => (other.rating ?? 0) - (one.rating ?? 0));
    const sign = sort === "best" ? -1 : 1;
    const score = (/** @type {api.Listed} */ each) => each.scores?.overall ?? (sign < 0 ? -1 : 11);
    return [...found].sort((one, other) => sign * (score(one) - score(other)));
  }

  async _reload() {
    this._abort.abort();
    this._abort = new AbortController();
    Object.assign(this, { items: [], done: false, busy: false, _cursor: null });
    await this._fill();
  }

  /** Load pages until what is seen, and a page more, is there. */
  async _fill() {
    if (this.busy || this.done) return;
    const { signal } = this._abort;
    this.busy = true;
    this.failure = "";
    try {
      do {
        const { data, next_cursor } = await api.list({ cursor: this._cursor, status: this.filters.status }, signal);
        if (signal.aborted) return;
        this.items = [...this.items, ...data];
        this._cursor = next_cursor;
        this.done = next_cursor === null;
        await this.updateComplete;
      } while (!this.done && this._shown.length < this._wanted);
    } catch (error) {
      if (signal.aborted) return;
      this.failure = error.message;
    }
    this.busy = false;
  }

  /** Look again at the newest, while some of them are under way. */
  async _refresh() {
    const newest = this.items.slice(0, 100);
    if (this.busy || document.hidden || newest.every(({ status }) => FINISHED.includes(status))) return;
    const { signal } = this._abort;
    const found = await api.list({ status: this.filters.status }, signal).catch(() => null);
    if (!found || signal.aborted) return;
    const known = new Set(found.data.map(({ id }) => id));
    const older = this.items.slice(newest.length);
    // With a filter by status, those that left it are gone.
    this.items = [...found.data, ...older.filter(({ id }) => !known.has(id))];
  }

  /** How many sessions would fill the window and the next. */
  get _wanted() {
    const { columns, row } = this._layout;
    return columns * (this.top + 2 * Math.ceil(innerHeight / row) + SPARE_ROWS);
  }

  /** @param {string} name @param {string} value */
  _filter(name, value) {
    this.filters = { ...this.filters, [name]: value };
    scrollTo(0, 0);
    if (name === "status") this._reload();
    else this._fill();
  }

  // --- rating ----------------------------------------------------------------------------------------------------------

  /** Rate a session; with the stars that it has, it loses them. @param {api.Listed} each @param {number} stars 0 is none */
  async _rate({ id, best, rating }, stars) {
    const wanted = stars === rating ? 0 : stars;
    if (!this.may.edit || !best || wanted === (rating ?? 0)) return;
    const show = (/** @type {number | undefined} */ shown) =>
      (this.items = this.items.map((each) => (each.id === id ? { ...each, rating: shown || undefined } : each)));
    show(wanted);
    try {
      if (wanted) await api.prefer({ session_id: id, rating: wanted }, crypto.randomUUID());
      else await api.forget(`rating_${id}`);
    } catch (error) {
      this.failure = error.message;
      show(rating);
    }
  }

  /** Digits rate the session that has the focus. @param {KeyboardEvent} event @param {api.Listed} each */
  _digit(event, each) {
    if (!/^[0-5]$/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const stars = Number(event.key);
    if (stars !== each.rating) this._rate(each, stars);
  }

  /** @param {api.Listed} each */
  _stars(each) {
    const { best, rating = 0, instruction } = each;
    if (!best) return nothing;
    const drawn = (/** @type {number} */ star) => (star <= rating ? "★" : "☆");
    if (!this.may.edit)
      return rating ? html`<div class="stars" role="img" aria-label="${rating} of 5 stars"><span class="on">${STARS.map(drawn)}</span></div>` : nothing;
    return html`<div class="stars" role="group" aria-label="Rating of ${instruction.slice(0, 60)}">
      ${STARS.map(
        (star) => html`<button
          class=${star <= rating ? "on" : ""}
          aria-label="${star} ${star === 1 ? "star" : "stars"}"
          aria-pressed=${star === rating}
          @click=${() => this._rate(each, star)}
        >${drawn(star)}</button>`,
      )}
    </div>`;
  }

  // --- several ---------------------------------------------------------------------------------------------------------

  /** @param {string} id */
  _choose(id) {
    const chosen = new Set(this.chosen);
    if (!chosen.delete(id)) chosen.add(id);
    this.chosen = chosen;
  }

  _stopChoosing() {
    this.choosing = false;
    this.chosen = new Set();
  }

  /** Save the result of each, one after another: a browser holds back many downloads at once. */
  async _download() {
    for (const each of this.items.filter(({ id, best }) => this.chosen.has(id) && best)) {
      const link = document.createElement("a");
      link.href = `${api.pathOf(each.id)}/image`;
      link.download = `edited-${each.id.slice(-6)}`;
      link.click();
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }

  async _delete() {
    const ids = this.items.filter(({ id, status }) => this.chosen.has(id) && FINISHED.includes(status)).map(({ id }) => id);
    if (!confirm(`Delete ${ids.length} finished sessions with their pictures? This cannot be undone.`)) return;
    try {
      for (const id of ids) {
        await api.remove(id);
        this.items = this.items.filter((each) => each.id !== id);
      }
      this._stopChoosing();
    } catch (error) {
      this.failure = error.message;
    }
  }

  // --- rendering -------------------------------------------------------------------------------------------------------

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    // Not at each scroll: there may be thousands.
    if (changed.has("items")) this._editors = [...new Set(this.items.map(({ editor }) => editor))];
  }

  render() {
    const shown = this._shown;
    const { columns, row, width, picture } = this._layout;
    const rows = Math.ceil(shown.length / columns);
    const first = Math.max(0, this.top - SPARE_ROWS) * columns;
    const last = (this.top + Math.ceil(innerHeight / row) + SPARE_ROWS + 1) * columns;
    const seen = this.width ? shown.slice(first, last) : [];
    return html`
      <h1 class="hidden-label">Sessions</h1>
      ${this._filters()} ${this.choosing ? this._several() : nothing}
      ${this.failure ? html`<p class="error" role="alert">${this.failure} <button @click=${this._fill}>Try again</button></p>` : nothing}
      <div
        class="grid"
        role="list"
        aria-label="Sessions"
        aria-busy=${this.busy}
        ${vars({ "--height": `${rows * row}px`, "--width": `${width}px`, "--picture": `${picture}px` })}
      >
        ${repeat(seen, ({ id }) => id, (each, index) => {
          const at = first + index;
          return this._card(each, (at % columns) * (width + GAP), Math.floor(at / columns) * row);
        })}
      </div>
      ${!shown.length && this.done ? this._empty() : nothing}
      <p class="hidden-label" role="status">${this.busy ? "Loading" : `${shown.length} sessions`}</p>
    `;
  }

  _filters() {
    const editors = this._editors;
    const select = (/** @type {string} */ name, /** @type {string} */ label, /** @type {string[][]} */ options) =>
      html`<select aria-label=${label} @change=${(/** @type {any} */ event) => this._filter(name, event.target.value)}>
        ${options.map(([value, text]) => html`<option value=${value} ?selected=${/** @type {Record<string, string>} */ (this.filters)[name] === value}>${text}</option>`)}
      </select>`;
    return html`<div class="filters" role="search">
      <input
        type="search"
        placeholder="Search instructions"
        aria-label="Search instructions"
        @input=${(/** @type {any} */ event) => this._filter("text", event.target.value)}
      />
      ${select("status", "Status", STATUSES)}
      ${select("editor", "Editor", [["", "All editors"], ...editors.map((name) => [name, name])])} ${select("rating", "Rating", RATINGS)} ${select("sort", "Order", SORTS)}
      <button aria-pressed=${this.choosing} @click=${() => (this.choosing ? this._stopChoosing() : (this.choosing = true))}>Select</button>
    </div>`;
  }

  _several() {
    const none = !this.chosen.size;
    return html`<div class="chosen">
      <span class="number" role="status">${this.chosen.size} selected</span>
      <button ?disabled=${none} @click=${this._download}>${icons.download}Download</button>
      ${this.may.edit ? html`<button class="danger" ?disabled=${none} @click=${this._delete}>${icons.trash}Delete</button>` : nothing}
      <button class="quiet" @click=${this._stopChoosing}>Close</button>
    </div>`;
  }

  /** @param {api.Listed} each @param {number} x @param {number} y */
  _card(each, x, y) {
    const side = this._layout.width * devicePixelRatio > 512 ? 1024 : 512;
    const url = api.reduced(each.best ? `${api.pathOf(each.id)}/image` : each.source.url, side);
    const word = STATUSES.find(([value]) => value === each.status)?.[1] ?? each.status;
    const score = each.scores ? each.scores.overall.toFixed(1) : "";
    return html`<div class="card" role="listitem" @keydown=${(/** @type {KeyboardEvent} */ event) => this._digit(event, each)} ${vars({ "--x": `${x}px`, "--y": `${y}px` })}>
      ${this.choosing
        ? html`<input
            type="checkbox"
            aria-label="Select ${each.instruction.slice(0, 60)}"
            .checked=${this.chosen.has(each.id)}
            @change=${() => this._choose(each.id)}
          />`
        : nothing}
      <a href="/studio/sessions/${each.id}" @click=${navigate}>
        <div class="picture"><img src=${url} alt="" loading="lazy" decoding="async" /></div>
        <div class="about">
          <div class="words">${each.instruction}</div>
          <div class="line number">
            <span>${word}<span class="turns">, ${each.totals.turns} ${each.totals.turns === 1 ? "turn" : "turns"}</span></span>
            <time datetime=${new Date(each.created_at * 1000).toISOString()}>${when(each.created_at)}</time>
          </div>
        </div>
      </a>
      ${this._stars(each)} ${score ? html`<span class="badge number" aria-label="Score ${score}">${score}</span>` : nothing}
    </div>`;
  }

  _empty() {
    const filtered = this.filters.text || this.filters.status || this.filters.editor || this.filters.rating;
    return html`<div class="empty">
      <p class="soft">${filtered ? "No session matches these filters." : "No sessions yet."}</p>
      ${filtered || !this.may.edit ? nothing : html`<a class="button primary" href="/studio" @click=${navigate}>Make an edit</a>`}
    </div>`;
  }
}

/** A time as people say it. @param {number} at Unix seconds */
function when(at) {
  const [then, ago] = [new Date(at * 1000), Date.now() / 1000 - at];
  if (ago < 60) return "just now";
  if (ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  if (ago < 86_400) return `${Math.floor(ago / 3600)} h ago`;
  return then.toLocaleDateString(undefined, { day: "numeric", month: "short", year: ago > 2e7 ? "numeric" : undefined });
}

customElements.define("edit-gallery", EditGallery);
