/**
 * `<edit-blind>`: votes on pairs of pictures whose makers are hidden, and who wins how often.
 *
 * A pair is two sessions of one task that differ in one thing alone, or two turns of a session. Votes are preferences of the API.
 *
 * @typedef {{name: string, url: string, ref: {session_id: string, turn: number, candidate: number}}} Side
 * @typedef {{a: Side, b: Side, task: any}} Pair
 */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls, workbench } from "./shared-styles.js";
import { vars } from "./custom-properties.js";
import "./compare.js";

/** What is compared, by the label that votes get; the field of a session that then differs. @type {Record<string, [string, string]>} */
const KINDS = {
  strategies: ["Strategies", "strategy"],
  editors: ["Editors", "editor"],
  thinkers: ["Thinkers", "thinker"],
  turns: ["Turns", ""],
};
/** Pages of a hundred sessions, or votes, that are looked at. */
const MOST_PAGES = 20;
const MOST_SESSIONS_OF_TURNS = 100;

class EditBlind extends LitElement {
  static properties = {
    may: { attribute: false },
    kind: { state: true },
    pairs: { state: true },
    votes: { state: true },
    mine: { state: true },
    busy: { state: true },
    failure: { state: true },
    said: { state: true },
    original: { state: true },
    swapped: { state: true },
  };

  static styles = [
    controls,
    workbench,
    css`
      .head select {
        width: auto;
      }
      .head p {
        flex: 1;
        min-width: 0;
        overflow: hidden;
        color: var(--text-soft);
        text-align: end;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .vote {
        display: grid;
        grid-template-columns: 1fr auto auto 1fr;
        gap: var(--gap-2);
        padding: var(--gap-3);
        border-block-start: 1px solid var(--line);
        background: var(--surface);
      }
      .vote button {
        min-height: 3rem;
      }
      .side {
        gap: var(--gap-5);
        align-content: start;
        padding: var(--gap-4) var(--gap-5);
        overflow-y: auto;
      }
      .task {
        display: flex;
        gap: var(--gap-2);
        flex-wrap: wrap;
        overflow-wrap: anywhere;
      }
      .task h2,
      .task p {
        width: 100%;
      }
      .task input {
        flex: 1;
      }
      table {
        width: 100%;
        border-collapse: collapse;
        font-size: var(--small);
      }
      th {
        color: var(--text-soft);
        font-weight: 550;
        text-align: start;
      }
      th,
      td {
        padding: var(--gap-2) var(--gap-1);
        border-block-end: 1px solid var(--line);
      }
      td,
      th ~ th {
        text-align: end;
        white-space: nowrap;
      }
      tbody th {
        color: var(--text);
        overflow-wrap: anywhere;
      }
      .range {
        display: block;
        position: relative;
        height: 0.25rem;
        margin-block-start: var(--gap-1);
        border-radius: 1rem;
        background: linear-gradient(var(--text), var(--text)) var(--from) 0 / var(--wide) 100% no-repeat var(--raised);
      }
      .empty {
        display: grid;
        gap: var(--gap-4);
        place-content: center;
        justify-items: center;
        padding: var(--gap-6) var(--gap-4);
        text-align: center;
      }
      .empty p {
        max-width: 34rem;
      }
      @media (max-width: 64rem) {
        :host {
          display: flex;
          flex-direction: column;
          height: auto;
        }
        edit-compare {
          height: min(46dvh, 40rem);
        }
        .vote {
          position: sticky;
          bottom: 0;
          z-index: 1;
        }
        .side {
          display: contents;
        }
        .side > * {
          order: 3;
          margin: var(--gap-3) var(--gap-4);
        }
        table {
          width: auto;
        }
        .side > .task {
          order: 1;
        }
        .work {
          order: 2;
        }
      }
      @media (max-width: 40rem) {
        .head p {
          display: none;
        }
      }
    `,
  ];

  constructor() {
    super();
    this.may = { edit: true, read: true };
    const wanted = new URLSearchParams(location.search).get("of") ?? "";
    this.kind = wanted in KINDS ? wanted : "strategies";
    /** Pairs that are left, the one that is shown first. @type {Pair[]} */
    this.pairs = [];
    /** @type {any[]} */
    this.votes = [];
    /** Votes of this page, which can be taken back: each with its pair. @type {{pair: Pair, sent: Promise<any>}[]} */
    this.mine = [];
    this.busy = true;
    this.failure = "";
    this.said = "";
    this.original = false;
    this.swapped = false;
    /** @type {any[]} */
    this._sessions = [];
    this._key = (/** @type {KeyboardEvent} */ event) => this._pressed(event);
  }

  connectedCallback() {
    super.connectedCallback();
    document.title = "Blind comparison · EditThinker";
    document.addEventListener("keydown", this._key);
    this._load();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    document.removeEventListener("keydown", this._key);
  }

  // --- pairs ----------------------------------------------------------------------------------------------------------

  async _load() {
    this.busy = true;
    this.failure = "";
    try {
      const [sessions, votes] = await Promise.all([
        pages((cursor) => api.list({ cursor, status: "succeeded" })),
        pages((cursor) => api.preferences(cursor)),
      ]);
      this._sessions = sessions.filter(({ best, unchanged }) => best && !unchanged);
      this.votes = votes.filter(({ choice }) => choice);
      await this._compose();
    } catch (error) {
      this.failure = error.message;
    }
    this.busy = false;
  }

  /** The pairs of what is compared that nobody voted on, in no order. */
  async _compose() {
    const kind = this.kind;
    const all = kind === "turns" ? await ofTurns(this._sessions) : ofSessions(this._sessions, KINDS[kind][1]);
    if (kind !== this.kind) return;
    const known = new Set(this._counted.map(({ a, b }) => nameOf(a, b)));
    this.pairs = shuffled(all.filter(({ a, b }) => !known.has(nameOf(a.ref, b.ref))));
    this.mine = [];
  }

  get _counted() {
    return this.votes.filter(({ label }) => label === this.kind);
  }

  /** @param {string} kind */
  async _compare(kind) {
    Object.assign(this, { kind, pairs: [], busy: true, said: "" });
    history.replaceState(null, "", `?of=${kind}`);
    await this._compose().catch((error) => (this.failure = error.message));
    this.busy = false;
  }

  // --- votes ----------------------------------------------------------------------------------------------------------

  /** Vote on the pair that is shown, and show the next. @param {"a" | "b" | "tie" | "skip"} choice */
  _vote(choice) {
    const [pair, ...rest] = this.pairs;
    if (!pair || !this.may.edit) return;
    const field = /** @type {HTMLInputElement} */ (this.renderRoot.querySelector("input"));
    const reason = field.value.trim();
    const body = { a: pair.a.ref, b: pair.b.ref, choice, label: this.kind, ...(reason ? { reason } : {}) };
    const sent = api.prefer(body, crypto.randomUUID());
    this.pairs = rest;
    this.mine = [...this.mine, { pair, sent }];
    this.original = false;
    this.failure = "";
    this.said = `${{ a: "A is better", b: "B is better", tie: "Tie", skip: "Skipped" }[choice]}. ${rest.length} pairs left.`;
    field.value = "";
    sent.then(
      (vote) => (this.votes = [vote, ...this.votes]),
      (error) => {
        this.failure = `The vote was not stored: ${error.message}`;
        this._back(sent);
      },
    );
  }

  /** Show a pair again. @param {Promise<any>} sent */
  _back(sent) {
    const found = this.mine.find((each) => each.sent === sent);
    if (!found) return;
    this.mine = this.mine.filter((each) => each !== found);
    this.pairs = [found.pair, ...this.pairs];
  }

  async _undo() {
    const last = this.mine.at(-1);
    if (!last) return;
    try {
      const { id } = await last.sent;
      await api.forget(id);
      this.votes = this.votes.filter((each) => each.id !== id);
      this._back(last.sent);
      this.said = "The last vote was taken back.";
    } catch (error) {
      this.failure = error.message;
    }
  }

  /** The picture at the left, or at the right, is better. @param {"left" | "right"} side */
  _side(side) {
    this._vote((side === "left") === this.swapped ? "b" : "a");
  }

  /** @param {KeyboardEvent} event */
  _pressed(event) {
    const at = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !this.pairs.length) return;
    if (at instanceof HTMLInputElement || at instanceof HTMLSelectElement) return;
    const tie = () => this._vote("tie");
    /** @type {Record<string, () => unknown>} */
    const actions = {
      ...{ arrowleft: () => this._side("left"), arrowright: () => this._side("right"), arrowup: tie, t: tie },
      ...{ s: () => this._vote("skip"), u: () => this._undo(), o: () => (this.original = !this.original) },
    };
    const action = actions[event.key.toLowerCase()];
    if (action && !event.repeat) {
      event.preventDefault();
      action();
    } else if (!action) /** @type {import("./compare.js").EditCompare} */ (this.renderRoot.querySelector("edit-compare")).handleKey(event);
  }

  // --- rendering -------------------------------------------------------------------------------------------------------

  render() {
    const [pair, next] = this.pairs;
    return html`
      <div class="head">
        <h1>Blind comparison</h1>
        <select aria-label="What is compared" @change=${(/** @type {any} */ event) => this._compare(event.target.value)}>
          ${Object.entries(KINDS).map(([kind, [name]]) => html`<option value=${kind} ?selected=${kind === this.kind}>${name}</option>`)}
        </select>
        <p class="small number">${pair ? `${this.pairs.length} ${this.pairs.length === 1 ? "pair" : "pairs"} left` : nothing}</p>
      </div>
      ${pair ? this._work(pair) : this._empty()}
      <div class="side">
        ${this.failure
          ? html`<p class="error" role="alert">${this.failure} ${pair ? nothing : html`<button @click=${this._load}>Try again</button>`}</p>`
          : nothing}
        ${pair ? this._task(pair) : nothing} ${this._table()}
        ${pair || this.mine.length
          ? html`<button ?disabled=${!this.mine.length} @click=${this._undo}>Undo last vote <kbd aria-hidden="true">U</kbd></button>`
          : nothing}
        <p class="hidden-label" role="status">${this.said}</p>
      </div>
      ${next ? html`<div hidden>${[next.a, next.b].map(({ url }) => html`<img src=${url} alt="" />`)}</div>` : nothing}
    `;
  }

  /** @param {Pair} pair */
  _work({ a, b, task }) {
    const { width, height, url } = task.source;
    const picture = (/** @type {string} */ label, /** @type {string} */ from) => ({ label, url: from, width, height });
    const [one, other] = this.original ? [picture("Source", url), null] : [picture("A", a.url), picture("B", b.url)];
    const [left, right] = this.swapped ? ["B", "A"] : ["A", "B"];
    const off = !this.may.edit;
    return html`<div class="work">
      <edit-compare
        .a=${one}
        .b=${other}
        mode=${matchMedia("(min-width: 48rem)").matches ? "side" : "wipe"}
        @swap-change=${(/** @type {CustomEvent} */ event) => (this.swapped = event.detail)}
      ></edit-compare>
      <div class="vote">
        <button class="primary" ?disabled=${off} @click=${() => this._side("left")}><kbd aria-hidden="true">←</kbd> ${left} is better</button>
        <button ?disabled=${off} @click=${() => this._vote("tie")}>Tie <kbd aria-hidden="true">T</kbd></button>
        <button ?disabled=${off} @click=${() => this._vote("skip")}>Skip <kbd aria-hidden="true">S</kbd></button>
        <button class="primary" ?disabled=${off} @click=${() => this._side("right")}>${right} is better <kbd aria-hidden="true">→</kbd></button>
      </div>
    </div>`;
  }

  /** @param {Pair} pair */
  _task({ task }) {
    return html`<div class="task">
      <h2>Which follows the instruction better?</h2>
      <p>${task.instruction}</p>
      <button aria-pressed=${this.original} @click=${() => (this.original = !this.original)}>Source <kbd aria-hidden="true">O</kbd></button>
      <input aria-label="Reason (optional)" placeholder="Why? (optional)" maxlength="1000" />
      ${this.may.edit ? nothing : html`<p class="soft small">This key may look, and not vote.</p>`}
    </div>`;
  }

  _table() {
    const rows = tally(this._counted, KINDS[this.kind][1]);
    if (!rows.length) return pairless(this.pairs.length > 0);
    const percent = (/** @type {number} */ share) => Math.round(share * 100);
    return html`<table>
      <caption class="hidden-label">Who wins how often</caption>
      <thead>
        <tr><th scope="col">${KINDS[this.kind][0]}</th><th scope="col">Won, tied, lost</th><th scope="col">Win rate, 95 %</th></tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ name, won, tied, lost, rate, low, high }) => html`<tr>
            <th scope="row">${name}</th>
            <td class="number">${won} · ${tied} · ${lost}</td>
            <td class="number">
              ${percent(rate)} % <span class="soft">(${percent(low)}–${percent(high)})</span>
              <span class="range" ${vars(bar(low, high))}></span>
            </td>
          </tr>`,
        )}
      </tbody>
    </table>`;
  }

  _empty() {
    const field = KINDS[this.kind][1];
    const done = this.mine.length || this._counted.length;
    const text = done
      ? "You have voted on every pair there is."
      : `No pairs yet. A pair is ${field ? `two finished sessions of one picture and instruction that differ in their ${field} alone` : "two turns of one session"}.${field ? " Choose Turns to vote on what single sessions made." : ""}`;
    return html`<div class="work empty">
      ${this.busy ? html`<p class="soft" role="status">Looking for pairs…</p>` : html`<p class="soft">${text}</p>`}
    </div>`;
  }
}

/** @param {boolean} waiting */
const pairless = (waiting) => (waiting ? html`<p class="soft small">Names and win rates appear here after your first vote.</p>` : nothing);

/** Everything of a list. @param {(cursor: string | null) => Promise<{data: any[], next_cursor: string | null}>} ask */
async function pages(ask) {
  /** @type {any[]} */
  const found = [];
  let cursor = null;
  for (let page = 0; page < MOST_PAGES && (page === 0 || cursor); page++) {
    const { data, next_cursor } = await ask(cursor);
    found.push(...data);
    cursor = next_cursor;
  }
  return found;
}

/** Pairs of sessions of one task that differ in one field. @param {any[]} sessions @param {string} field @returns {Pair[]} */
function ofSessions(sessions, field) {
  const same = ["strategy", "editor", "thinker"].filter((each) => each !== field);
  const groups = Map.groupBy(sessions, (each) =>
    JSON.stringify([each.instruction, each.source.sha256, each.references, each.mask?.sha256, ...same.map((name) => each[name])], (name, value) =>
      name === "url" ? undefined : value,
    ),
  );
  const side = (/** @type {any} */ each) => ({
    name: each[field],
    url: `${api.pathOf(each.id)}/image`,
    ref: { session_id: each.id, ...each.best },
  });
  return [...groups.values()].flatMap((group) =>
    twos(group)
      .filter(([one, other]) => one[field] !== other[field])
      .map(([one, other]) => ({ a: side(one), b: side(other), task: one })),
  );
}

/** Pairs of turns: each with the next, and the first with the last. @param {any[]} sessions @returns {Promise<Pair[]>} */
async function ofTurns(sessions) {
  const several = sessions.filter(({ totals }) => totals.turns > 1).slice(0, MOST_SESSIONS_OF_TURNS);
  const whole = [];
  for (const { id } of several) whole.push(await api.session(id));
  return whole.flatMap((session) => {
    const sides = session.turns
      .filter((/** @type {any} */ turn) => !turn.draft)
      .map((/** @type {any} */ turn) => {
        const made = turn.candidates.filter((/** @type {any} */ each) => each.image && !each.unchanged);
        const top = made.sort((/** @type {any} */ one, /** @type {any} */ other) => (other.scores?.overall ?? -1) - (one.scores?.overall ?? -1))[0];
        return top && { name: "", url: top.image.url, ref: { session_id: session.id, turn: turn.turn, candidate: top.candidate } };
      })
      .filter(Boolean);
    const last = sides.length - 1;
    return twos(sides.map((/** @type {Side} */ _, /** @type {number} */ index) => index))
      .filter(([one, other]) => other - one === 1 || other - one === last)
      .map(([one, other]) => ({ a: sides[one], b: sides[other], task: session }));
  });
}

/** @template T @param {T[]} all @returns {[T, T][]} */
const twos = (all) => all.flatMap((one, index) => all.slice(index + 1).map((other) => /** @type {[T, T]} */ ([one, other])));

/** In no order, nor which of two is A. @param {Pair[]} pairs */
function shuffled(pairs) {
  const mixed = pairs.map((pair) => (Math.random() < 0.5 ? pair : { ...pair, a: pair.b, b: pair.a }));
  for (let at = mixed.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [mixed[at], mixed[other]] = [mixed[other], mixed[at]];
  }
  return mixed;
}

/** A pair whichever of the two is A. @param {Side["ref"]} a @param {Side["ref"]} b */
const nameOf = (a, b) => [a, b].map(({ session_id, turn, candidate }) => `${session_id}/${turn}/${candidate}`).sort().join();

/** How often each name won, a tie as half; with Wilson's interval of 95 %. @param {any[]} votes @param {string} field of a picture */
export function tally(votes, field) {
  /** @type {Map<string, {won: number, tied: number, lost: number}>} */
  const found = new Map();
  for (const { a, b, choice } of votes) {
    if (choice === "skip") continue;
    for (const [one, side] of [[a, "a"], [b, "b"]]) {
      const name = field ? one[field] : `Turn ${one.turn}`;
      const row = found.get(name) ?? { won: 0, tied: 0, lost: 0 };
      row[choice === "tie" ? "tied" : choice === side ? "won" : "lost"] += 1;
      found.set(name, row);
    }
  }
  return [...found].map(([name, row]) => ({ name, ...row, ...wilson(row) })).sort((one, other) => other.rate - one.rate);
}

/** Wilson (1927): the interval holds for few votes too. @param {{won: number, tied: number, lost: number}} row */
function wilson({ won, tied, lost }) {
  const [n, z] = [won + tied + lost, 1.96];
  const rate = (won + tied / 2) / n;
  const middle = (rate + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((rate * (1 - rate)) / n + (z * z) / (4 * n * n));
  return { rate, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** The interval as a part of a bar; the position of a background counts what it leaves free. @param {number} low @param {number} high */
function bar(low, high) {
  const wide = high - low;
  return { "--wide": `${wide * 100}%`, "--from": `${wide < 1 ? (low / (1 - wide)) * 100 : 0}%` };
}

customElements.define("edit-blind", EditBlind);
