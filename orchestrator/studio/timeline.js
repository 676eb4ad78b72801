/**
 * `<edit-timeline>`: a session's pictures as a film strip: the source, then each turn with its candidates and their scores.
 *
 * Properties: `session` (a state of state.js), `remote` (where its pictures are), `selected` and `compared` (a turn and candidate;
 * null is the source). Event: `choose`, whose detail is such a pair.
 *
 * Without `session` it follows one itself, see session-element.js.
 */
import { css, html, nothing, repeat } from "./lit/lit.js";
import { smaller } from "./api.js";
import { controls } from "./shared-styles.js";
import { best, candidateStatus, meets, same } from "./state.js";
import { icons } from "./icons.js";
import { SessionElement } from "./session-element.js";

/** Pixels of a thumbnail's longer side: those of a dense screen. */
const THUMB = 256;
/** CSS pixels between the chosen picture and the edge of the strip. */
const SPACE = 24;
/** @type {Record<string, string>} */
const AUTHORS = { caller: "your words", preparer: "rewritten", thinker: "thinker", person: "a person" };
const WORDS = {
  ...{ planned: "waiting", editing: "editing", edited: "being judged", critiqued: "", unscored: "no score" },
  ...{ failed: "failed", rejected: "stopped early", stopped: "stopped" },
};

export class EditTimeline extends SessionElement {
  static properties = {
    session: { attribute: false },
    selected: { attribute: false },
    compared: { attribute: false },
    failure: { state: true },
  };

  static styles = [
    controls,
    css`
      :host {
        display: block;
        min-width: 0;
        background: var(--surface);
        color: var(--text);
        font: var(--body) / 1.5 var(--font);
      }
      ol {
        display: flex;
        gap: var(--gap-4);
        padding: var(--gap-3);
        overflow-x: auto;
        scrollbar-width: thin;
        scroll-padding: var(--gap-5);
      }
      .turn {
        flex: none;
      }
      .head {
        display: flex;
        gap: var(--gap-2);
        margin-block-end: var(--gap-1);
        font-size: 0.75rem;
        font-weight: 550;
        white-space: nowrap;
      }
      .row {
        display: flex;
        gap: var(--gap-2);
      }
      .frame {
        display: block;
        position: relative;
        width: 7.5rem;
        height: auto;
        min-height: 0;
        padding: 0;
        overflow: hidden;
        border: 1px solid var(--line);
        background: var(--stage);
        text-align: start;
      }
      .frame[aria-pressed="true"] {
        border-color: var(--ink);
        background: var(--stage);
        color: var(--text);
        box-shadow: 0 0 0 1px var(--ink);
      }
      .frame[aria-pressed="true"] .foot {
        background: var(--raised);
      }
      .thumb {
        display: block;
        width: 100%;
        height: 5rem;
        object-fit: contain;
      }
      .foot {
        display: flex;
        gap: var(--gap-1);
        align-items: center;
        justify-content: space-between;
        min-height: 1.5rem;
        padding: 0 var(--gap-2);
        background: var(--surface);
        font-size: 0.75rem;
      }
      .score {
        font-weight: 650;
      }
      .met {
        color: var(--good);
      }
      .failed {
        color: var(--bad);
      }
      .star {
        width: 0.875rem;
        height: 0.875rem;
        color: var(--accent);
      }
      .with {
        position: absolute;
        top: 0.25rem;
        left: 0.25rem;
        padding: 0 0.3rem;
        border-radius: 0.25rem;
        background: #131314cc;
        color: #fff;
        font-size: 0.6875rem;
      }
      @media (max-width: 48rem) {
        .frame {
          width: 6rem;
        }
        .thumb {
          height: 4rem;
        }
      }
    `,
  ];

  constructor() {
    super();
    /** @type {import("./state.js").Session | null} */
    this.session = null;
    /** @type {import("./state.js").Ref | null} */
    this.selected = null;
    /** @type {import("./state.js").Ref | null | undefined} */
    this.compared = undefined;
    this.failure = "";
  }

  /** @param {import("./remote-session.js").RemoteSession} remote */
  opened(remote) {
    return remote.watch((session, failure) => Object.assign(this, { session, failure }));
  }

  /** @param {Map<string, unknown>} changed */
  updated(changed) {
    if (!changed.has("selected")) return;
    const strip = this.renderRoot.querySelector("ol");
    const frame = this.renderRoot.querySelector('[aria-pressed="true"]');
    if (!strip || !frame) return;
    // Not scrollIntoView, which in Chromium also decides where the next Tab leads.
    const [outer, inner] = [strip.getBoundingClientRect(), frame.getBoundingClientRect()];
    if (inner.left < outer.left) strip.scrollLeft -= outer.left - inner.left + SPACE;
    else if (inner.right > outer.right) strip.scrollLeft += inner.right - outer.right + SPACE;
  }

  /** @param {import("./state.js").Ref | null} ref */
  _choose(ref) {
    this.dispatchEvent(new CustomEvent("choose", { detail: ref, bubbles: true, composed: true }));
  }

  render() {
    const { session } = this;
    if (this.failure) return html`<p class="error" role="alert">${this.failure}</p>`;
    // The address of the source is known before anything else is, so it is seen first.
    const source = this.remote?.picture("/source", smaller(THUMB)) || nothing;
    return html`<ol aria-label="Turns" aria-hidden=${session ? nothing : "true"}>
      <li class="turn">
        <div class="head">Source</div>
        <button class="frame" ?disabled=${!session} aria-pressed=${session ? this.selected === null : nothing} aria-label="Source" @click=${() => this._choose(null)}>
          <img class="thumb" src=${source} crossorigin="anonymous" alt="" decoding="async" />
          <span class="foot soft number">${session ? `${session.created.source.width} × ${session.created.source.height}` : nothing}</span>
          ${session && this.compared === null ? html`<span class="with">A</span>` : nothing}
        </button>
      </li>
      ${session ? this._turns(session) : [1, 2].map(() => html`<li class="turn"><div class="head">…</div><div class="frame skeleton"><div class="thumb"></div><div class="foot"></div></div></li>`)}
    </ol>`;
  }

  /** @param {import("./state.js").Session} session */
  _turns(session) {
    const top = best(session);
    return repeat(
      session.turns,
      (turn) => turn.turn,
      (turn) => html`<li class="turn">
        <div class="head">
          Turn ${turn.turn}<span class="soft">${turn.draft ? "draft" : turn.renders ? "in full" : AUTHORS[turn.author]}</span>
        </div>
        <div class="row">${turn.candidates.map((candidate) => this._frame(session, candidate, top))}</div>
      </li>`,
    );
  }

  /** @param {import("./state.js").Session} session @param {import("./state.js").Candidate} candidate @param {import("./state.js").Ref | null} top */
  _frame(session, candidate, top) {
    const { turn, candidate: number, scores, image, preview } = candidate;
    const state = candidateStatus(candidate);
    const kind = image ? "image" : preview ? "preview" : "";
    const url = kind && this.remote?.picture(`/turns/${turn}/candidates/${number}/${kind}`, smaller(THUMB));
    const leads = same(top, candidate);
    const score = scores ? scores.overall.toFixed(1) : WORDS[state];
    const name = `Turn ${turn}, candidate ${number}: ${scores ? `score ${score}` : score || state}${leads ? ", best" : ""}`;
    return html`<button class="frame" aria-pressed=${same(this.selected, candidate)} aria-label=${name} @click=${() => this._choose(candidate)}>
      ${kind
        ? html`<img class="thumb" src=${url} crossorigin="anonymous" alt="" decoding="async" />`
        : html`<span class="thumb ${["planned", "editing"].includes(state) ? "skeleton" : ""}"></span>`}
      <span class="foot number">
        <span class="score ${meets(session, candidate) ? "met" : ""} ${state === "failed" ? "failed" : ""}">${score}</span>
        ${leads ? html`<svg class="star" viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">${icons.star}</svg>` : nothing}
      </span>
      ${same(this.compared, candidate) ? html`<span class="with">A</span>` : nothing}
    </button>`;
  }
}

customElements.define("edit-timeline", EditTimeline);
