/** `<edit-operator>`: what the service does now, as /readyz, /v1/models and /metrics tell it; what they do not tell is not known. */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";

const REFRESH_MS = 5000;
const UNKNOWN = html`<span class="soft">not known</span>`;

class EditOperator extends LitElement {
  static properties = { now: { state: true }, last: { state: true } };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
        gap: var(--gap-5);
        align-content: start;
        padding: var(--gap-5) clamp(0.75rem, 2vw, 1.5rem) var(--gap-6);
      }
      .top {
        grid-column: 1 / -1;
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2) var(--gap-4);
        align-items: baseline;
      }
      h1 {
        font-size: var(--large);
        font-weight: 600;
      }
      h2 {
        margin-block-end: var(--gap-3);
        font-size: var(--body);
        font-weight: 650;
      }
      section {
        min-width: 0;
        padding: var(--gap-4) var(--gap-5);
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--surface);
        overflow-x: auto;
      }
      table {
        width: 100%;
        border-collapse: collapse;
        font-size: var(--small);
      }
      th,
      td {
        padding: var(--gap-2) 0;
        border-block-end: 1px solid var(--line);
        text-align: start;
        font-weight: 400;
      }
      tr:last-child > * {
        border: 0;
      }
      th + td,
      td + td,
      th + th {
        padding-inline-start: var(--gap-3);
      }
      thead th {
        color: var(--text-soft);
        white-space: nowrap;
      }
      td,
      th ~ th {
        text-align: end;
      }
      td {
        font-variant-numeric: tabular-nums;
      }
      tbody th {
        min-width: 7rem;
        overflow-wrap: anywhere;
      }
      .good {
        color: var(--good);
      }
      .bad {
        color: var(--bad);
      }
    `,
  ];

  constructor() {
    super();
    /** @type {{at: number, models: any, ready: any, metrics: Metrics | null} | null} */
    this.now = null;
    /** @type {EditOperator["now"]} */
    this.last = null;
  }

  connectedCallback() {
    super.connectedCallback();
    document.title = "Operator · EditThinker";
    this._clock = setInterval(() => document.hidden || this._look(), REFRESH_MS);
    this._look();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this._clock);
  }

  async _look() {
    const none = () => null;
    const [models, ready, metrics] = await Promise.all([
      api.models().catch(none),
      api.ready().catch(none),
      api.metrics().then((text) => new Metrics(text), none),
    ]);
    this.last = this.now;
    this.now = { at: Date.now(), models, ready, metrics };
  }

  render() {
    const now = this.now;
    const at = now ? new Date(now.at).toLocaleTimeString() : "";
    return html`
      <div class="top">
        <h1>Operator</h1>
        <p class="soft small">${now ? html`As of <span class="number">${at}</span>, every 5 s. Figures marked * are of the replica that answered.` : "Looking…"}</p>
      </div>
      ${now ? [this._health(now), this._queue(now), this._workers(now), this._work(now), tenants] : nothing}
    `;
  }

  /** @param {NonNullable<EditOperator["now"]>} now */
  _health({ ready, metrics }) {
    const checks = ready?.checks ? Object.entries(ready.checks).filter(([name]) => !name.includes(":")) : [];
    const percent = metrics?.value("redis_memory_percent");
    return section("Health", [
      ["Edits can be made", ready ? yes(ready.status === "ready") : UNKNOWN],
      ...checks.map(([name, up]) => [WORDS[name] ?? name, yes(up)]),
      ["Memory of Redis in use", percent === undefined ? UNKNOWN : percent ? `${percent.toFixed(0)} %` : "no limit set"],
      ["Replicas", known(metrics?.value("replicas"))],
    ]);
  }

  /** @param {NonNullable<EditOperator["now"]>} now */
  _queue({ metrics }) {
    const by = metrics?.by("sessions_queued", "editor") ?? new Map();
    return section("Queue", [
      ["Sessions that are not finished", known(metrics?.value("sessions_unfinished"))],
      ["Of these queued", metrics ? String([...by.values()].reduce((sum, each) => sum + each, 0)) : UNKNOWN],
      ...[...by].map(([editor, queued]) => [`for ${editor}`, String(queued)]),
      ["Driven by this replica*", known(metrics?.value("sessions_driving"))],
    ]);
  }

  /** @param {NonNullable<EditOperator["now"]>} now */
  _workers({ models, metrics }) {
    if (!models) return html`<section><h2>Workers</h2>${UNKNOWN}</section>`;
    const of = (/** @type {string} */ name, /** @type {string} */ editor) => known(metrics?.by(name, "editor").get(editor));
    const editors = models.data.filter((/** @type {any} */ each) => !each.alias_of);
    return html`<section tabindex="0" aria-label="Workers">
      <h2>Workers</h2>
      <table>
        <thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Editing*</th><th scope="col">At most*</th><th scope="col">Waiting*</th></tr></thead>
        <tbody>
          ${[...editors, ...models.thinkers, ...models.judges].map(
            ({ id, owned_by, ready, check }) => html`<tr>
              <th scope="row">${id} <span class="soft">${owned_by}</span></th>
              <td>${ready ? html`<span class="good">ready</span>` : html`<span class="bad">not ready</span>`}${check && !check.passed ? html`, <span class="bad">failed its check</span>` : nothing}</td>
              ${owned_by === "editor"
                ? ["edits_in_flight", "edits_limit", "edits_queued"].map((name) => html`<td>${of(name, id)}</td>`)
                : html`<td colspan="3"></td>`}
            </tr>`,
          )}
        </tbody>
      </table>
    </section>`;
  }

  /** @param {NonNullable<EditOperator["now"]>} now */
  _work({ metrics, at }) {
    const { last } = this;
    const rate = (/** @type {string} */ name, /** @type {string} */ unit) => {
      const [one, other] = [last?.metrics?.sum(name), metrics?.sum(name)];
      // Less than before: another replica answered, or it was started again.
      if (one === undefined || other === undefined || other < one) return UNKNOWN;
      return `${(((other - one) * 60_000) / (at - (last?.at ?? 0))).toFixed(1)} ${unit} a minute`;
    };
    const total = (/** @type {string} */ name) => known(metrics?.sum(name));
    return section("Work of this replica*", [
      ["Edits", rate("edit_seconds_count", "")],
      ["Editor time", rate("editor_seconds_total", "s")],
      ["Sessions finished", total("sessions_finished_total")],
      ["Requests refused", total("sessions_refused_total")],
      ["Edits and critiques that failed", total("failures_total")],
    ]);
  }
}

/** @type {Record<string, string>} */
const WORDS = { redis: "Redis writes", blobs: "Blob store writes", driver: "Sessions are driven*" };
/** @param {unknown} up */
const yes = (up) => (up ? html`<span class="good">yes</span>` : html`<span class="bad">no</span>`);
/** @param {number | undefined} value */
const known = (value) => (value === undefined ? UNKNOWN : String(Math.round(value * 10) / 10));

/** @param {string} name @param {unknown[][]} rows */
const section = (name, rows) => html`<section>
  <h2>${name}</h2>
  <table><tbody>${rows.map(([label, value]) => html`<tr><th scope="row">${label}</th><td>${value}</td></tr>`)}</tbody></table>
</section>`;

const tenants = html`<section>
  <h2>Use by tenants</h2>
  <p class="small">${UNKNOWN}: no endpoint tells it. <code>editthinker quota list</code> has what was set for each.</p>
</section>`;

/** The figures of a Prometheus text, without the prefix of their names. */
class Metrics {
  /** @param {string} text */
  constructor(text) {
    this._text = text;
    this._rows = [...text.matchAll(/^editthinker_(\w+)(?:\{(.*)\})? (\S+)/gm)].map(([, name, labels, value]) => ({
      name,
      labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text])),
      value: Number(value),
    }));
  }

  /** @param {string} name */
  value(name) {
    return this._rows.find((row) => row.name === name)?.value;
  }

  /** Over all labels; one that was never counted has no row, but a type. @param {string} name */
  sum(name) {
    if (!this._text.includes(`editthinker_${name}`)) return undefined;
    return this._rows.filter((row) => row.name === name).reduce((sum, row) => sum + row.value, 0);
  }

  /** @param {string} name @param {string} label @returns {Map<string, number>} */
  by(name, label) {
    return new Map(this._rows.filter((row) => row.name === name).map(({ labels, value }) => [labels[label], value]));
  }
}

customElements.define("edit-operator", EditOperator);
