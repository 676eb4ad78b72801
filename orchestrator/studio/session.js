/**
 * `<edit-session>`: one session, live: its pictures compared, its turns, what the judge found, and the means to steer it.
 *
 * Properties: `sessionId`, and `may` with what the caller's key allows; `page` where it is the whole page, and so has its title and
 * its keys. On any page it is told its session as session-element.js says.
 */
import { css, html, nothing } from "./lit/lit.js";
import { best, candidateStatus, candidates, find, meets, same, status } from "./state.js";
import { smaller } from "./api.js";
import { controls, workbench } from "./shared-styles.js";
import { go } from "./navigation.js";
import { handOver } from "./handed-over.js";
import { icons } from "./icons.js";
import { sparkline } from "./sparkline.js";
import { wordDiff } from "./word-diff.js";
import { SessionElement } from "./session-element.js";
import "./compare.js";
import "./shares.js";
import "./sign-in.js";
import "./timeline.js";

/** @type {Record<string, string>} */
const STATUS = {
  ...{ queued: "Queued", running: "Working", awaiting_review: "Waiting for you", cancelling: "Cancelling" },
  ...{ succeeded: "Done", failed: "Failed", cancelled: "Cancelled" },
};
/** @type {Record<string, string>} */
const REASONS = {
  satisfied: "a candidate met both thresholds",
  unchanged: "nothing but the source was made",
  max_turns: "all turns were used",
  plateau: "further turns brought nothing better",
  deadline: "the deadline came",
  budget: "the budget is used up",
  accepted: "a person decided",
  cancelled: "it was cancelled",
  failed: "no picture could be made",
};
const KEYS = [
  ["← →", "Candidate"],
  ["↑ ↓", "Turn"],
  ["Space", "Flip before and after"],
  ["M", "Mode of comparison"],
  ["C", "Swap sides"],
  ["Z", "Fit or 1:1"],
  ["1 – 9", "Pick that turn"],
  ["A", "Accept the best"],
  ["R", "Try again with new seeds"],
  ["I", "Instruct"],
  ["G", "Go on"],
  ["Esc", "Undo, close"],
];
/** Milliseconds in which a decision that ends the session can be taken back; the API cannot undo it. */
const UNDO_MS = 4000;

export class EditSession extends SessionElement {
  static properties = {
    page: { type: Boolean },
    may: { attribute: false },
    guest: { state: true },
    sharing: { state: true },
    session: { state: true },
    selected: { state: true },
    base: { state: true },
    link: { state: true },
    queue: { state: true },
    failure: { state: true },
    pending: { state: true },
    instructing: { state: true },
    said: { state: true },
    now: { state: true },
  };

  static styles = [
    controls,
    workbench,
    css`
      :host {
        color: var(--text);
        font: var(--body) / 1.5 var(--font);
      }
      h1 {
        display: -webkit-box;
        flex: 1;
        min-width: 0;
        overflow: hidden;
        line-height: 1.3;
        letter-spacing: -0.01em;
        overflow-wrap: anywhere;
        -webkit-box-orient: vertical;
        -webkit-line-clamp: 2;
      }
      .state {
        display: inline-flex;
        gap: var(--gap-2);
        align-items: center;
        padding: 0.125rem 0.625rem;
        border-radius: 1rem;
        background: var(--raised);
        font-size: var(--small);
        font-weight: 550;
        white-space: nowrap;
      }
      .state.succeeded {
        background: var(--good-wash);
        color: var(--good);
      }
      .state.failed {
        background: var(--bad-wash);
        color: var(--bad);
      }
      .state.awaiting_review {
        background: var(--accent-wash);
        color: var(--accent);
      }
      .pulse {
        width: 0.5rem;
        height: 0.5rem;
        border-radius: 50%;
        background: var(--accent);
        animation: pulse 1.4s ease-in-out infinite;
      }
      @keyframes pulse {
        50% {
          opacity: 0.25;
        }
      }
      @media (prefers-reduced-motion: reduce) {
        .pulse {
          animation: none;
        }
      }
      edit-compare {
        min-height: 0;
      }
      edit-timeline {
        border-block-start: 1px solid var(--line);
      }
      .side {
        grid-template-rows: minmax(0, 1fr) auto;
        min-height: 0;
      }
      .facts {
        display: grid;
        gap: var(--gap-5);
        align-content: start;
        padding: var(--gap-4) var(--gap-5) var(--gap-5);
        overflow-y: auto;
        overflow-wrap: anywhere;
      }
      .facts:focus-visible {
        outline-offset: -3px;
      }
      h3 {
        margin-block-end: var(--gap-2);
        color: var(--text-soft);
        font-size: 0.75rem;
        font-weight: 550;
      }
      .between {
        display: flex;
        gap: var(--gap-3);
        align-items: center;
        justify-content: space-between;
      }
      .scores {
        flex: 1;
        display: grid;
        grid-template-columns: auto minmax(3rem, 1fr) auto;
        gap: var(--gap-1) var(--gap-3);
        align-items: center;
        font-size: var(--small);
      }
      .between select {
        width: auto;
        max-width: 11rem;
        min-height: 2rem;
        padding-block: 0;
        font-size: var(--small);
      }
      .overall {
        min-width: 3.5rem;
        font-size: 2rem;
        font-weight: 650;
        line-height: 1;
        letter-spacing: -0.03em;
      }
      meter {
        width: 100%;
        height: 0.375rem;
        border: 0;
        border-radius: 1rem;
        background: var(--raised);
      }
      meter::-webkit-meter-bar {
        height: 0.375rem;
        border: 0;
        border-radius: 1rem;
        background: var(--raised);
      }
      meter::-webkit-meter-optimum-value,
      meter::-webkit-meter-suboptimum-value,
      meter::-webkit-meter-even-less-good-value {
        border-radius: 1rem;
        background: var(--text);
      }
      meter::-moz-meter-bar {
        border-radius: 1rem;
        background: var(--text);
      }
      meter.met::-webkit-meter-optimum-value,
      meter.met::-webkit-meter-suboptimum-value {
        background: var(--good);
      }
      .prose {
        white-space: pre-line;
      }
      ins {
        border-radius: 0.2rem;
        background: var(--good-wash);
        color: var(--good);
        text-decoration: none;
        box-decoration-break: clone;
        padding: 0 0.15em;
      }
      del {
        color: var(--text-soft);
      }
      .answers li {
        display: grid;
        grid-template-columns: auto 1fr;
        gap: 0 var(--gap-2);
        padding-block: var(--gap-1);
        font-size: var(--small);
      }
      .answers .mark {
        width: 3.2em;
        font-weight: 600;
      }
      .yes {
        color: var(--good);
      }
      .no {
        color: var(--bad);
      }
      .partly {
        color: var(--accent);
      }
      .cost {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-1) var(--gap-4);
        font-size: var(--small);
      }
      .cost dt {
        display: inline;
        color: var(--text-soft);
      }
      .cost dd {
        display: inline;
      }
      .spark {
        display: block;
        width: min(26rem, 100%);
        overflow: visible;
      }
      .steer {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2);
        padding: var(--gap-3) var(--gap-5);
        border-block-start: 1px solid var(--line);
      }
      .steer form {
        display: grid;
        gap: var(--gap-2);
        width: 100%;
      }
      .steer > * {
        flex: 1 1 25%;
      }
      .steer:has(> :nth-child(5)) > * {
        flex-basis: 40%;
      }
      .steer > .wide {
        flex-basis: 100%;
      }
      .toast {
        position: fixed;
        z-index: 5;
        bottom: max(1.5rem, env(safe-area-inset-bottom));
        inset-inline: 0;
        width: fit-content;
        margin-inline: auto;
        display: flex;
        gap: var(--gap-3);
        align-items: center;
        max-width: calc(100vw - 2rem);
        padding: var(--gap-2) var(--gap-2) var(--gap-2) var(--gap-4);
        border-radius: var(--radius);
        background: var(--ink);
        color: var(--on-ink);
        box-shadow: var(--shadow);
        font-size: var(--small);
      }
      .toast button {
        border-color: color-mix(in oklab, var(--on-ink) 35%, transparent);
        background: transparent;
        color: inherit;
      }
      .toast button:hover {
        background: color-mix(in oklab, var(--on-ink) 16%, transparent);
      }
      dialog {
        width: min(26rem, calc(100vw - 2rem));
      }
      .keys {
        display: grid;
        grid-template-columns: auto 1fr;
        gap: var(--gap-2) var(--gap-4);
        margin-block-start: var(--gap-4);
        font-size: var(--small);
      }
      .waiting {
        display: grid;
        gap: var(--gap-2);
        justify-items: center;
        padding: var(--gap-5);
        text-align: center;
      }
      @media (max-width: 64rem) {
        :host {
          display: block;
          height: auto;
          min-height: 0;
        }
        edit-compare {
          height: min(62dvh, 40rem);
        }
        .side {
          display: block;
          border: 0;
        }
        .facts {
          padding: var(--gap-4);
          overflow: visible;
        }
        .steer {
          position: sticky;
          bottom: 0;
          padding: var(--gap-2) var(--gap-4);
          background: var(--surface);
        }
      }
      @media (max-width: 40rem) {
        edit-compare {
          height: min(62dvh, 112vw);
        }
        .head {
          flex-wrap: wrap;
        }
        h1 {
          flex: 1 0 100%;
          order: 1;
          -webkit-line-clamp: 3;
        }
        .head .quiet {
          margin-inline-start: auto;
        }
        .help {
          display: none;
        }
      }
    `,
  ];

  constructor() {
    super();
    this.page = false;
    this.may = { edit: true, read: true };
    /** The share by which this is seen. @type {import("./remote-session.js").Share | null} */
    this.guest = null;
    this.sharing = false;
    /** @type {import("./state.js").Session | null} */
    this.session = null;
    /** The picture that is looked at; undefined follows the session. @type {import("./state.js").Ref | null | undefined} */
    this.selected = undefined;
    /** What it is compared with: the source, the turn before it, or a certain candidate. @type {"source" | "previous" | import("./state.js").Ref} */
    this.base = "source";
    this.link = "open";
    /** @type {{ahead: number, wait_s: number | null} | null} */
    this.queue = null;
    this.failure = "";
    /** @type {{label: string, send: () => Promise<unknown>, timer: number} | null} */
    this.pending = null;
    this.instructing = false;
    this.said = "";
    this.now = Date.now() / 1000;
    this._pressedKey = (/** @type {KeyboardEvent} */ event) => this._pressed(event);
    this._leaving = () => this._sendNow();
  }

  connectedCallback() {
    super.connectedCallback();
    // Elsewhere than in the studio, keys are the page's own unless the focus is here.
    /** @type {any} */
    this._keys = this.page ? document : this;
    this._keys.addEventListener("keydown", this._pressedKey);
    addEventListener("pagehide", this._leaving);
    this._clock = setInterval(() => this._tick(), 1000);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this._sendNow();
    this._keys?.removeEventListener("keydown", this._pressedKey);
    removeEventListener("pagehide", this._leaving);
    clearInterval(this._clock);
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    // What was decided is about the session before.
    if (changed.has("sessionId") || changed.has("share")) this._sendNow();
    super.willUpdate(changed);
  }

  /** @param {import("./remote-session.js").RemoteSession} remote */
  opened(remote) {
    Object.assign(this, { session: null, selected: undefined, base: "source", failure: "", queue: null, guest: null, sharing: false });
    if (remote.shared || this.key) this.may = { edit: false, read: true };
    if (remote.shared) remote.share().then((share) => (this.guest = share), () => {});
    else if (this.key) remote.may().then((may) => (this.may = may), () => {});
    const show = (/** @type {import("./state.js").Session | null} */ session, /** @type {string} */ failure) => {
      // A guest whose link has ended sees nothing more, as after loading the page again.
      this.session = failure && remote.shared ? null : session;
      if (failure) this.failure = failure;
    };
    return remote.watch(show, (link) => (this.link = link));
  }

  /** @param {() => unknown} work */
  async _try(work) {
    try {
      await work();
      this.failure = "";
      return true;
    } catch (error) {
      this.failure = error.message;
      return false;
    }
  }

  _tick() {
    if (!this.session || this.session.finished) return;
    this.now = Date.now() / 1000;
    const waiting = status(this.session) === "queued" || candidates(this.session).some((each) => candidateStatus(each) === "planned");
    if (!waiting) this.queue = null;
    else if (Math.round(this.now) % 3 === 0) this.remote?.request("GET").then(({ queue }) => (this.queue = queue), () => {});
  }

  // --- what is shown ---------------------------------------------------------------------------------------------------

  /** The candidates that have a picture, in order. */
  get _made() {
    return this.session ? candidates(this.session).filter((each) => each.image) : [];
  }

  /** What is looked at: as chosen, or else the answer, or the latest. @returns {import("./state.js").Ref | null} */
  get _shown() {
    if (this.selected !== undefined) return this.selected;
    const { session } = this;
    if (!session) return null;
    if (session.finished) return session.finished.best;
    return this._made.at(-1) ?? null;
  }

  /** @returns {import("./state.js").Ref | null} */
  get _base() {
    if (this.base === "source") return null;
    if (this.base !== "previous") return this.base;
    const at = this._made.findIndex((each) => same(each, this._shown));
    return this._made[at - 1] ?? null;
  }

  /** The names of the two pictures that are compared, as a share takes them. */
  get _compared() {
    const name = (/** @type {import("./state.js").Ref | null} */ ref) => (ref ? `${ref.turn}/${ref.candidate}` : "source");
    return this.session && find(this.session, this._shown)?.image ? [name(this._base), name(this._shown)] : [];
  }

  /** @param {import("./state.js").Ref | null} ref @returns {import("./compare.js").Picture | null} */
  _picture(ref) {
    const { session, remote } = this;
    if (!session || !remote) return null;
    const { source } = session.created;
    const at = (/** @type {string} */ part) => ({
      url: remote.picture(part),
      reduced: (/** @type {number} */ side) => remote.picture(part, smaller(side)),
    });
    if (!ref) return { ...at("/source"), label: "Source", width: source.width, height: source.height };
    const found = find(session, ref);
    const image = found?.image ?? found?.preview;
    if (!found || !image) return null;
    const kind = found.scaled ? "answer" : found.image ? "image" : "preview";
    const turn = session.turns[ref.turn - 1];
    const label = turn.candidates.length > 1 ? `Turn ${ref.turn}, candidate ${ref.candidate}` : `Turn ${ref.turn}`;
    const { width, height } = found.scaled ?? image;
    return { ...at(`/turns/${ref.turn}/candidates/${ref.candidate}/${kind}`), label, width, height, places: found.places };
  }

  render() {
    const { session } = this;
    if (this.failure && !session) return html`<edit-notice .text=${this.failure} @again=${this.reopen}></edit-notice>`;
    const shown = this._shown;
    return html`
      ${this._head()}
      <div class="work">
        <edit-compare .a=${this._picture(this._base)} .b=${shown ? this._picture(shown) : null}>
          <span slot="empty">${session ? "No picture yet" : "Loading…"}</span>
        </edit-compare>
        <edit-timeline
          .session=${session}
          .remote=${this.remote}
          .selected=${shown}
          .compared=${this._base}
          @choose=${(/** @type {CustomEvent} */ event) => this._select(event.detail)}
        ></edit-timeline>
      </div>
      <aside class="side" aria-label="About this picture">
        <div class="facts" tabindex="0" role="region" aria-label="Details">
          ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
          ${session ? [this._decision(session), this._candidate(session, shown), this._course(session)] : nothing}
        </div>
        ${session ? this._steering(session) : nothing}
      </aside>
      ${this.pending ? this._toast(this.pending) : nothing}
      <div class="hidden-label" role="status">${this.said}</div>
      ${this._help()}
      ${this.sharing && this.remote
        ? html`<edit-shares .remote=${this.remote} .compared=${this._compared} @closed=${() => (this.sharing = false)}></edit-shares>`
        : nothing}
    `;
  }

  _head() {
    const { session } = this;
    const state = session ? status(session) : "";
    const instruction = session?.created.instruction ?? "…";
    if (this.page) document.title = `${instruction.slice(0, 60)} · EditThinker`;
    return html`<div class="head">
      <span class="state ${state}">
        ${["running", "queued", "cancelling"].includes(state) ? html`<span class="pulse"></span>` : nothing}${STATUS[state] ?? "Loading"}
      </span>
      <h1 title=${instruction}>${instruction}</h1>
      ${this.link === "lost" && !session?.finished ? html`<span class="soft small" role="status">Reconnecting…</span>` : nothing}
      ${this.remote?.shared ? html`<span class="state" title=${this._until}>Read only</span>` : nothing}
      ${this.page && session && this.may.edit
        ? html`<button class="quiet" @click=${() => (this.sharing = true)}>${icons.link}Share</button>`
        : nothing}
      <button class="quiet help" aria-label="Keys" title="Keys (?)" @click=${this._showHelp}><kbd>?</kbd></button>
    </div>`;
  }

  get _until() {
    return this.guest ? `This link works until ${new Date(this.guest.expires_at * 1000).toLocaleString()}` : "";
  }

  /** Why it ended, or what it waits for. @param {import("./state.js").Session} session */
  _decision(session) {
    const { finished, review } = session;
    if (finished?.error) return html`<p class="error">${finished.error.message}</p>`;
    if (finished) {
      const doubt = finished.preferred === false ? " The judge does not prefer it to the unedited source." : "";
      return html`<p class="small soft">Ended after ${count(session.totals.turns, "turn")}: ${REASONS[finished.reason]}.${doubt}</p>`;
    }
    if (review) {
      const would = review.reason ? ` It would end now: ${REASONS[review.reason]}.` : "";
      return html`<p class="small">The loop waits for your decision.${would}</p>`;
    }
    if (this.queue) {
      const wait = this.queue.wait_s === null ? "" : `, about ${seconds(this.queue.wait_s)}`;
      return html`<p class="small soft">In the queue: ${count(this.queue.ahead, "session")} ahead${wait}.</p>`;
    }
    return nothing;
  }

  /** @param {import("./state.js").Session} session @param {import("./state.js").Ref | null} ref */
  _candidate(session, ref) {
    const found = find(session, ref);
    if (!found || !ref) return this._source(session);
    const turn = session.turns[found.turn - 1];
    const state = candidateStatus(found);
    return html`
      <section>
        <div class="between">
          <h2>${this._picture(ref)?.label ?? `Turn ${found.turn}`}</h2>
          <label class="small"><span class="hidden-label">Compare with</span>${this._baseChoice()}</label>
        </div>
      </section>
      ${found.scores ? this._scores(session, found) : this._progress(found, state)}
      <section>
        <h3>Instruction${turn.author === "person" ? " by a person" : turn.author === "thinker" ? " by the thinker" : ""}</h3>
        <p>${this._instruction(session, turn)}</p>
      </section>
      ${found.not_understood.length
        ? html`<section><h3>Not carried out, says the editor</h3><ul>${found.not_understood.map((each) => html`<li>${each}</li>`)}</ul></section>`
        : nothing}
      ${found.unchanged ? html`<p class="small">It has the source's pixels: nothing was changed.</p>` : nothing}
      ${found.reasoning ? html`<section><h3>What the judge says</h3><p class="prose">${found.reasoning}</p></section>` : nothing}
      ${found.refinement_reasoning
        ? html`<section><h3>What the thinker says</h3><p class="prose">${found.refinement_reasoning}</p></section>`
        : nothing}
      ${found.answers.length ? this._answers(session, found) : nothing}
      ${found.outside_mask
        ? html`<p class="small soft">Outside the mask ${(found.outside_mask.changed * 100).toFixed(1)} % changed visibly.</p>`
        : nothing}
    `;
  }

  /** @param {import("./state.js").Session} session */
  _source(session) {
    return html`<section><h2>Source</h2></section>
      <section><h3>Instruction</h3><p>${session.created.instruction}</p></section>`;
  }

  _baseChoice() {
    const value = typeof this.base === "string" ? this.base : `${this.base.turn}/${this.base.candidate}`;
    const choose = (/** @type {Event} */ event) => {
      const chosen = /** @type {HTMLSelectElement} */ (event.target).value;
      const [turn, candidate] = chosen.split("/").map(Number);
      this.base = chosen === "source" || chosen === "previous" ? chosen : { turn, candidate };
    };
    const options = [
      ["source", "with the source"],
      ["previous", "with the one before"],
      ...this._made.map((each) => [`${each.turn}/${each.candidate}`, `with ${this._picture(each)?.label}`]),
    ];
    return html`<select @change=${choose}>
      ${options.map(([id, name]) => html`<option value=${id} ?selected=${id === value}>${name}</option>`)}
    </select>`;
  }

  /** @param {import("./state.js").Session} session @param {import("./state.js").Candidate} candidate */
  _scores(session, candidate) {
    const { scores, critiques } = candidate;
    if (!scores) return nothing;
    const limits = session.created.limits;
    const row = (/** @type {string} */ name, /** @type {number} */ value, /** @type {number} */ threshold) => html`
      <span>${name}</span>
      <meter class=${value >= threshold ? "met" : ""} min="0" max="10" value=${value} aria-label="${name}: ${value.toFixed(1)} of 10"></meter>
      <span class="number">${value.toFixed(1)}</span>
    `;
    return html`<section class="between">
      <div class="overall number" aria-label="Overall ${scores.overall.toFixed(1)}">${scores.overall.toFixed(1)}</div>
      <div class="scores" ?data-met=${meets(session, candidate)}>
        ${row("Follows the instruction", scores.semantic, limits.semantic_threshold ?? 8)}
        ${row("Quality", scores.quality, limits.quality_threshold ?? 8)}
        ${critiques.length > 1 ? html`<span class="soft">mean of ${critiques.length} critiques</span>` : nothing}
      </div>
    </section>`;
  }

  /** @param {import("./state.js").Candidate} candidate @param {string} state */
  _progress(candidate, state) {
    const { edit_error, critique_error, started_at } = candidate;
    const error = edit_error ?? critique_error;
    const since = state === "editing" && started_at ? ` ${seconds(Math.max(0, this.now - started_at))}` : "";
    /** @type {Record<string, string>} */
    const words = {
      planned: "Waits for an editor",
      editing: `The editor works on it${since}`,
      edited: "The judge looks at it",
      unscored: "It could not be scored",
      failed: "The edit failed",
      rejected: "Stopped early: its unfinished picture was far below the best",
      stopped: "Stopped: its result was no longer needed",
    };
    return html`<p class="small">${words[state] ?? ""}</p>
      ${error ? html`<p class="error">${error.message}</p>` : nothing}`;
  }

  /** @param {import("./state.js").Session} session @param {import("./state.js").Turn} turn */
  _instruction(session, turn) {
    const before = session.turns[turn.turn - 2];
    if (!before) return turn.instruction;
    if (before.instruction === turn.instruction) return html`${turn.instruction} <span class="soft small">(as before, with other seeds)</span>`;
    return wordDiff(before.instruction, turn.instruction).map(({ kind, text }) =>
      kind === "same" ? html`${text} ` : kind === "added" ? html`<ins>${text}</ins> ` : html`<del>${text}</del> `,
    );
  }

  /** @param {import("./state.js").Session} session @param {import("./state.js").Candidate} candidate */
  _answers(session, candidate) {
    return html`<section>
      <h3>Checklist</h3>
      <ul class="answers">
        ${candidate.answers.map(
          (answer) => html`<li>
            <span class="mark ${answer.answer}">${answer.answer}</span>
            <span>${session.checklist[answer.number - 1]?.text ?? `Question ${answer.number}`}<br /><span class="soft">${answer.reason}</span></span>
          </li>`,
        )}
      </ul>
    </section>`;
  }

  /** Scores over the turns, and what it cost. @param {import("./state.js").Session} session */
  _course(session) {
    const scored = candidates(session).filter((each) => each.scores);
    const { edits, editor_seconds, thinker_seconds, prompt_tokens, completion_tokens } = session.totals;
    const tokens = prompt_tokens + completion_tokens;
    const costs = [
      ["Edits", String(edits)],
      ["Editor", seconds(editor_seconds)],
      ["Thinker", seconds(thinker_seconds)],
      ...(tokens ? [["Tokens", tokens.toLocaleString("en")]] : []),
    ];
    return html`<section>
        ${scored.length > 1 ? html`<h3>Scores</h3>${sparkline(session, scored, this._shown, (ref) => this._select(ref))}` : nothing}
      </section>
      <dl class="cost number" aria-label="Cost">${costs.map(([name, value]) => html`<div><dt>${name}</dt> <dd>${value}</dd></div>`)}</dl>`;
  }

  // --- steering --------------------------------------------------------------------------------------------------------

  /** @param {import("./state.js").Session} session */
  _steering(session) {
    if (session.finished) return this._afterwards(session);
    if (!this.may.edit || session.accepted || session.cancelled) return nothing;
    if (this.instructing) return this._instructForm();
    const top = best(session);
    const shown = this._shown;
    const found = find(session, shown);
    const leads = same(top, shown);
    return html`<div class="steer" role="group" aria-label="Steer">
      ${leads || !found?.image
        ? html`<button class="primary wide" ?disabled=${!top} @click=${this._accept}>${icons.check}Accept${top ? ` turn ${top.turn}` : ""}<kbd>A</kbd></button>`
        : html`<button class="primary wide" @click=${() => this._pick(found)}>${icons.check}Pick this one</button>`}
      ${session.review ? html`<button @click=${this._goOn}>${icons.play}Go on <kbd>G</kbd></button>` : nothing}
      <button @click=${() => this._instruct()}>${icons.pen}Instruct <kbd>I</kbd></button>
      <button ?disabled=${!session.turns.length} @click=${this._reroll} title="The same instruction with other seeds">${icons.again}Try again <kbd>R</kbd></button>
      <button class="danger" @click=${this._cancel}>${icons.stop}Cancel</button>
    </div>`;
  }

  /** @param {import("./state.js").Session} session */
  _afterwards(session) {
    const shown = this._shown;
    const picture = this._picture(shown);
    const type = (find(session, shown)?.image ?? session.created.source).media_type.split("/")[1];
    return html`<div class="steer" role="group" aria-label="Afterwards">
      ${picture
        ? html`<a class="button primary wide" href=${picture.url} download="edited-${this.remote?.id.slice(-6)}.${type}">${icons.download}Download</a>`
        : nothing}
      ${this.page && this.may.edit && picture ? html`<button @click=${() => this._editAgain(picture)}>${icons.pen}Edit this</button>` : nothing}
      ${this.page && this.may.edit ? html`<button class="danger" @click=${this._delete}>${icons.trash}Delete</button>` : nothing}
    </div>`;
  }

  _instructForm() {
    const close = () => (this.instructing = false);
    return html`<div class="steer">
      <form
        @submit=${(/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          const instruction = this.renderRoot.querySelector("textarea")?.value.trim();
          if (!instruction) return;
          close();
          this._send({ action: "instruct", instruction });
        }}
      >
        <label><span>The next turn's instruction, from the source</span><textarea rows="3" maxlength="32000" required .value=${this._startingText}></textarea></label>
        <div class="between">
          <button type="button" class="quiet" @click=${close}>Close <kbd>Esc</kbd></button><button class="primary">Send</button>
        </div>
      </form>
    </div>`;
  }

  get _startingText() {
    const { session } = this;
    return session?.turns[(this._shown?.turn ?? session.turns.length) - 1]?.instruction ?? session?.created.instruction ?? "";
  }

  async _instruct() {
    this.instructing = true;
    await this.updateComplete;
    this.renderRoot.querySelector("textarea")?.focus();
  }

  /** @param {object} body @param {RequestInit} [options] */
  _send(body, options) {
    this.selected = undefined;
    return this._try(() => this.remote?.request("POST", "/feedback", body, options));
  }

  _accept() {
    const top = this.session && best(this.session);
    if (top) this._later(`Accepting turn ${top.turn}`, () => this._send({ action: "accept" }, { keepalive: true }));
  }

  /** @param {import("./state.js").Ref} ref */
  _pick({ turn, candidate }) {
    const label = this._picture({ turn, candidate })?.label ?? `turn ${turn}`;
    this._later(`Picking ${label.toLowerCase()}`, () => this._send({ action: "pick", turn, candidate }, { keepalive: true }));
  }

  _reroll() {
    const instruction = this.session?.turns.at(-1)?.instruction;
    if (instruction) this._send({ action: "instruct", instruction });
  }

  _goOn() {
    this._send({ action: "go_on" });
  }

  _cancel() {
    this._later("Cancelling the session", () => this._try(() => this.remote?.request("POST", "/cancel")));
  }

  _delete() {
    const gone = async () => (await this._try(() => this.remote?.request("DELETE"))) && go("/studio/sessions");
    this._later("Deleting the session and its pictures", gone);
  }

  /** @param {import("./compare.js").Picture} picture */
  async _editAgain({ url }) {
    await this._try(async () => {
      const blob = await (await fetch(url)).blob();
      handOver([new File([blob], `edited.${blob.type.split("/")[1]}`, { type: blob.type })], "");
      go("/studio");
    });
  }

  /** Do something in a moment, unless it is taken back. @param {string} label @param {() => Promise<unknown>} send */
  _later(label, send) {
    this._sendNow();
    this.said = `${label}. Escape takes it back.`;
    this.pending = { label, send, timer: setTimeout(() => this._sendNow(), UNDO_MS) };
  }

  _sendNow() {
    const { pending } = this;
    if (!pending) return;
    clearTimeout(pending.timer);
    this.pending = null;
    pending.send();
  }

  _takeBack() {
    clearTimeout(this.pending?.timer);
    this.pending = null;
    this.said = "Taken back";
  }

  /** @param {{label: string}} pending */
  _toast({ label }) {
    return html`<div class="toast"><span>${label}…</span><button @click=${this._takeBack}>Undo <kbd>Esc</kbd></button></div>`;
  }

  // --- keys ------------------------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  _pressed(event) {
    const target = event.composedPath()[0];
    const typing = target instanceof HTMLElement && target.matches("input, textarea, select");
    if (event.key === "Escape") this._escape();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (this.sharing || this.renderRoot.querySelector("dialog")?.open) return;
    const compare = /** @type {import("./compare.js").EditCompare | null} */ (this.renderRoot.querySelector("edit-compare"));
    if (compare?.handleKey(event)) return;
    /** @type {Record<string, () => unknown>} */
    const steps = { ArrowLeft: () => this._step(-1), ArrowRight: () => this._step(1), ArrowUp: () => this._turn(-1), ArrowDown: () => this._turn(1) };
    const steering = this.may.edit && this.session && !this.session.finished && !this.session.accepted && !this.session.cancelled;
    /** @type {Record<string, () => unknown>} */
    const decisions = { a: () => this._accept(), r: () => this._reroll(), i: () => this._instruct(), g: () => this.session?.review && this._goOn() };
    const action = steps[event.key] ?? (event.key === "?" ? () => this._showHelp() : steering ? decisions[event.key.toLowerCase()] : undefined);
    if (action) {
      event.preventDefault();
      action();
    } else if (/^[1-9]$/.test(event.key)) this._number(Number(event.key), !!steering);
  }

  _escape() {
    if (this.pending) this._takeBack();
    else if (this.instructing) this.instructing = false;
    else this.selected = undefined;
  }

  /** Show the best picture of a turn, and pick it while the session can be steered. @param {number} turn @param {boolean} steering */
  _number(turn, steering) {
    const made = this._made.filter((each) => each.turn === turn);
    const chosen = made.sort((one, other) => (other.scores?.overall ?? -1) - (one.scores?.overall ?? -1))[0];
    if (!chosen) return;
    this._select(chosen);
    if (steering) this._pick(chosen);
  }

  /** @param {import("./state.js").Ref | null} ref */
  _select(ref) {
    this.selected = ref && { turn: ref.turn, candidate: ref.candidate };
    this.said = this._picture(this.selected)?.label ?? "";
  }

  /** To the next picture, or the one before it; the source is the first. @param {number} by */
  _step(by) {
    const all = [null, ...this._made];
    const at = all.findIndex((each) => (each ? same(each, this._shown) : this._shown === null));
    this._select(all[Math.min(all.length - 1, Math.max(0, at + by))]);
  }

  /** @param {number} by */
  _turn(by) {
    const turns = [...new Set(this._made.map((each) => each.turn))];
    const at = turns.indexOf(this._shown?.turn ?? 0);
    const turn = at < 0 ? turns[0] : turns[Math.min(turns.length - 1, Math.max(0, at + by))];
    this._select(this._made.find((each) => each.turn === turn) ?? null);
  }

  _showHelp() {
    this.renderRoot.querySelector("dialog")?.showModal();
  }

  _help() {
    return html`<dialog aria-label="Keys">
      <div class="between">
        <h2>Keys</h2>
        <button class="quiet" aria-label="Close" @click=${(/** @type {Event} */ event) => /** @type {Element} */ (event.target).closest("dialog")?.close()}>
          ${icons.close}
        </button>
      </div>
      <dl class="keys">${KEYS.map(([key, name]) => html`<dt><kbd>${key}</kbd></dt><dd>${name}</dd>`)}</dl>
    </dialog>`;
  }
}

/** @param {number} amount @param {string} thing */
const count = (amount, thing) => `${amount} ${thing}${amount === 1 ? "" : "s"}`;

/** @param {number} amount */
const seconds = (amount) =>
  amount < 10 ? `${amount.toFixed(1)} s` : amount < 120 ? `${Math.round(amount)} s` : `${Math.round(amount / 60)} min`;

customElements.define("edit-session", EditSession);
