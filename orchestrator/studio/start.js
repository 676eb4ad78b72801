/** `<edit-start>`: choose pictures, say what should change, and make a session. */
import { LitElement, css, html, nothing } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";
import { go } from "./navigation.js";
import { icons } from "./icons.js";
import { curl, python } from "./snippets.js";
import { taken } from "./handed-over.js";

const STRATEGIES = [
  ["think", "Think while editing", "Critique every edit, refine the instruction, try again"],
  ["adaptive", "Adaptive", "As many turns as the edit is hard"],
  ["think_best_of_n", "Think, best of n", "Several candidates a turn"],
  ["best_of_n", "Best of n", "One instruction, several seeds, the best is kept"],
  ["single", "Single", "One plain edit"],
];
const KEPT = "editthinker.start";
/** Fields of the form that are kept in this browser. */
const CHOICES = ["model", "thinker", "strategy", "max_turns", "candidates", "review", "budget_edits", "deadline_s", "seed"];
const EXAMPLES = ["make it feel like golden hour", "make it look like a faded 1970s print", "make it brighter and warmer"];

/** @typedef {{file: File, url: string}} Chosen */

class EditStart extends LitElement {
  static properties = {
    may: { attribute: false },
    pictures: { state: true },
    values: { state: true },
    models: { state: true },
    busy: { state: true },
    failure: { state: true },
    over: { state: true },
    copied: { state: true },
    snippet: { state: true },
  };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        align-content: start;
        justify-items: center;
        padding: clamp(1rem, 4vh, 3.5rem) clamp(1rem, 4vw, 3rem) var(--gap-6);
      }
      form {
        display: grid;
        gap: var(--gap-5);
        width: min(46rem, 100%);
      }
      h1 {
        font-size: var(--title);
        font-weight: 650;
        line-height: 1.15;
        letter-spacing: -0.025em;
        text-wrap: balance;
      }
      .drop {
        display: grid;
        gap: var(--gap-2);
        place-items: center;
        align-content: center;
        position: relative;
        min-height: clamp(11rem, 34vh, 24rem);
        padding: var(--gap-4);
        border: 1.5px dashed var(--line-strong);
        border-radius: var(--radius);
        background: var(--surface);
        text-align: center;
        transition: border-color var(--quick), background var(--quick);
      }
      .drop:hover,
      .over {
        border-color: var(--accent);
        background: var(--accent-wash);
      }
      .drop input {
        position: absolute;
        inset: 0;
        opacity: 0;
        cursor: pointer;
      }
      .drop:focus-within {
        outline: 2px solid var(--focus);
        outline-offset: 2px;
      }
      .drop .icon {
        width: 2rem;
        height: 2rem;
        color: var(--text-soft);
      }
      .pictures {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr));
        gap: var(--gap-2);
      }
      .pictures li {
        position: relative;
      }
      .pictures li:first-child {
        grid-column: 1 / -1;
      }
      .pictures img {
        display: block;
        width: 100%;
        max-height: 6rem;
        border-radius: var(--radius-small);
        background: var(--stage);
        object-fit: contain;
      }
      .pictures li:first-child img {
        height: clamp(12rem, 44vh, 30rem);
        max-height: none;
        border-radius: var(--radius);
      }
      .pictures button {
        position: absolute;
        top: var(--gap-2);
        right: var(--gap-2);
        min-height: 2rem;
        width: 2rem;
        padding: 0;
        border-color: transparent;
        background: #131314cc;
        color: #fff;
      }
      .pictures span {
        position: absolute;
        bottom: var(--gap-2);
        left: var(--gap-2);
        padding: 0 0.4rem;
        border-radius: var(--radius-small);
        background: #131314cc;
        color: #fff;
        font-size: 0.75rem;
      }
      .more {
        position: relative;
        display: grid;
        place-items: center;
        min-height: 6rem;
        border: 1.5px dashed var(--line-strong);
        border-radius: var(--radius-small);
        color: var(--text-soft);
        font-size: var(--small);
        text-align: center;
      }
      .more:focus-within {
        outline: 2px solid var(--focus);
      }
      .more input {
        position: absolute;
        inset: 0;
        opacity: 0;
        cursor: pointer;
      }
      textarea {
        min-height: 5.5rem;
        padding: var(--gap-3) var(--gap-4);
        border-radius: var(--radius);
        font-size: var(--large);
        field-sizing: content;
      }
      .examples {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2);
        margin-block-start: var(--gap-2);
      }
      .examples button {
        min-height: 2rem;
        border-radius: 1rem;
        color: var(--text-soft);
        font-weight: 450;
        white-space: normal;
        text-align: start;
      }
      .options {
        display: grid;
        grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr));
        gap: var(--gap-4);
      }
      details {
        border-block-start: 1px solid var(--line);
        padding-block-start: var(--gap-4);
      }
      summary {
        color: var(--text-soft);
        font-size: var(--small);
        font-weight: 550;
        cursor: pointer;
      }
      details > :last-child {
        margin-block-start: var(--gap-4);
      }
      .send {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-3);
        align-items: center;
      }
      .send .primary {
        min-height: 2.75rem;
        padding: 0 var(--gap-5);
        font-size: var(--body);
      }
      pre {
        max-height: 20rem;
        margin: 0;
        padding: var(--gap-4);
        overflow: auto;
        border-radius: var(--radius-small);
        background: var(--raised);
        font: 0.75rem / 1.6 var(--mono);
      }
      .code {
        display: grid;
        gap: var(--gap-2);
      }
      .tabs {
        display: flex;
        gap: var(--gap-1);
        align-items: center;
      }
      .tabs button:last-child {
        margin-inline-start: auto;
      }
    `,
  ];

  constructor() {
    super();
    this.may = { edit: true, read: true };
    /** @type {Chosen[]} */
    this.pictures = [];
    /** @type {Record<string, string>} */
    this.values = { prompt: "", ...kept() };
    /** @type {{data: any[], thinkers: any[]} | null} */
    this.models = null;
    this.busy = false;
    this.failure = "";
    this.over = false;
    this.copied = false;
    /** @type {"curl" | "python"} */
    this.snippet = "curl";
    this._paste = (/** @type {ClipboardEvent} */ event) => this._add(event.clipboardData?.files ?? []);
  }

  connectedCallback() {
    super.connectedCallback();
    document.title = "New edit · EditThinker";
    addEventListener("paste", this._paste);
    const { files, prompt } = taken();
    this._add(files);
    if (prompt) this.values = { ...this.values, prompt };
    api.models().then((found) => (this.models = found), () => {});
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    removeEventListener("paste", this._paste);
    for (const { url } of this.pictures) URL.revokeObjectURL(url);
  }

  /** @param {Iterable<File>} files */
  _add(files) {
    const added = [...files].filter((file) => file.type.startsWith("image/")).map((file) => ({ file, url: URL.createObjectURL(file) }));
    if (added.length) this.pictures = [...this.pictures, ...added].slice(0, 16);
  }

  /** @param {Chosen} picture */
  _remove(picture) {
    URL.revokeObjectURL(picture.url);
    this.pictures = this.pictures.filter((each) => each !== picture);
  }

  /** @param {InputEvent} event */
  _input(event) {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.name) this.values = { ...this.values, [field.name]: field.value };
  }

  /** The fields that are sent: those that were filled in. */
  get _fields() {
    return Object.entries(this.values).filter(([, value]) => value !== "");
  }

  /** @param {SubmitEvent} event */
  async _submit(event) {
    event.preventDefault();
    if (!this.pictures.length) {
      this.failure = "Choose a picture first: drop it, paste it, or click the field above.";
      return;
    }
    this.busy = true;
    this.failure = "";
    const form = new FormData();
    for (const { file } of this.pictures) form.append("image", file);
    for (const [name, value] of this._fields) form.append(name, value);
    keep(this.values);
    try {
      const session = await api.create(form, crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
      go(`/studio/sessions/${session.id}`);
    } catch (error) {
      this.failure = error.message;
    }
    this.busy = false;
  }

  render() {
    if (!this.may.edit) return html`<p class="soft">This key may look at sessions, and not make any.</p>`;
    return html`<form
      @submit=${this._submit}
      @input=${this._input}
      @dragover=${(/** @type {DragEvent} */ event) => {
        event.preventDefault();
        this.over = true;
      }}
      @dragleave=${() => (this.over = false)}
      @drop=${(/** @type {DragEvent} */ event) => {
        event.preventDefault();
        this.over = false;
        this._add(event.dataTransfer?.files ?? []);
      }}
      @keydown=${(/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.renderRoot.querySelector("form").requestSubmit();
      }}
    >
      <h1>What should change?</h1>
      ${this.pictures.length ? this._chosen() : this._drop()}
      <div>
        <label>
          <span class="hidden-label">Instruction</span>
          <textarea name="prompt" required maxlength="32000" placeholder="Describe the edit, as you would to a retoucher" .value=${this.values.prompt}></textarea>
        </label>
        ${this.values.prompt ? nothing : this._examples()}
      </div>
      <details>
        <summary>Options${this._summary()}</summary>
        ${this._options()}
      </details>
      <details>
        <summary>The same with curl or Python</summary>
        ${this._code()}
      </details>
      ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
      <div class="send">
        <button class="primary" ?disabled=${this.busy}>${this.busy ? "Sending…" : "Edit"}</button>
        <span class="soft small">or <kbd>Ctrl</kbd> <kbd>Enter</kbd></span>
      </div>
    </form>`;
  }

  _drop() {
    return html`<div class="drop ${this.over ? "over" : ""}">
      ${icons.picture}
      <strong>Drop a picture, paste it, or click</strong>
      <span class="soft small">PNG, JPEG or WebP. The first is edited; more are references.</span>
      ${this._chooser("Choose pictures")}
    </div>`;
  }

  /** @param {string} name */
  _chooser(name) {
    return html`<input
      type="file"
      accept="image/png,image/jpeg,image/webp"
      multiple
      aria-label=${name}
      @change=${(/** @type {Event} */ event) => {
        const field = /** @type {HTMLInputElement} */ (event.target);
        this._add(field.files ?? []);
        field.value = "";
      }}
    />`;
  }

  _chosen() {
    return html`<ul class="pictures">
      ${this.pictures.map(
        (picture, index) => html`<li>
          <img src=${picture.url} alt=${picture.file.name} />
          <span>${index ? `Picture ${index + 1}` : "Source"}</span>
          <button type="button" aria-label="Remove ${picture.file.name}" @click=${() => this._remove(picture)}>${icons.close}</button>
        </li>`,
      )}
      <li class="more">Add a reference${this._chooser("Add references")}</li>
    </ul>`;
  }

  _examples() {
    const use = (/** @type {string} */ prompt) => () => (this.values = { ...this.values, prompt });
    return html`<div class="examples">
      ${EXAMPLES.map((text) => html`<button type="button" @click=${use(text)}>${text}</button>`)}
    </div>`;
  }

  _summary() {
    const chosen = CHOICES.filter((name) => this.values[name]).map((name) => this.values[name]);
    return chosen.length ? html`<span>: ${chosen.join(", ")}</span>` : nothing;
  }

  /** @param {string} name @param {string} label @param {[string, string][]} choices */
  _select(name, label, choices) {
    return html`<label
      ><span>${label}</span
      ><select name=${name}>
        ${choices.map(([value, text]) => html`<option value=${value} ?selected=${(this.values[name] ?? "") === value}>${text}</option>`)}
      </select></label
    >`;
  }

  /** @param {string} name @param {string} label @param {{min?: number, max?: number, placeholder: string}} range */
  _number(name, label, { min = 1, max, placeholder }) {
    return html`<label
      ><span>${label}</span
      ><input type="number" name=${name} min=${min} max=${max ?? nothing} placeholder=${placeholder} .value=${this.values[name] ?? ""}
    /></label>`;
  }

  _options() {
    const named = (/** @type {{id: string}[]} */ list) => list.map(({ id }) => /** @type {[string, string]} */ ([id, id]));
    const strategy = STRATEGIES.find(([id]) => id === (this.values.strategy || "think"));
    return html`<div class="options">
      ${this._select("model", "Editor", [["", "Default"], ...named(this.models?.data ?? [])])}
      ${this._select("thinker", "Thinker", [["", "Default"], ...named(this.models?.thinkers ?? [])])}
      <div>
        ${this._select("strategy", "Strategy", [["", "Default"], ...STRATEGIES.map(([id, name]) => /** @type {[string, string]} */ ([id, name]))])}
        <p class="soft small">${strategy[2]}</p>
      </div>
      ${this._select("review", "Ask me", [
        ["", "Never"],
        ["each_turn", "After every turn"],
        ["before_finish", "Before the end"],
      ])}
      ${this._number("max_turns", "Turns at most", { max: 100, placeholder: "5" })}
      ${this._number("candidates", "Candidates a turn", { max: 16, placeholder: "1" })}
      ${this._number("budget_edits", "Edits at most", { placeholder: "no limit" })}
      ${this._number("deadline_s", "Seconds at most", { placeholder: "600" })}
      ${this._number("seed", "Seed", { min: 0, max: 2 ** 31 - 1, placeholder: "random" })}
    </div>`;
  }

  _code() {
    const files = this.pictures.map(({ file }) => file.name);
    const fields = this._fields;
    const text = this.snippet === "curl" ? curl(location.origin, files, fields) : python(location.origin, files, fields);
    const tab = (/** @type {"curl" | "python"} */ name, /** @type {string} */ label) =>
      html`<button type="button" aria-pressed=${this.snippet === name} @click=${() => (this.snippet = name)}>${label}</button>`;
    return html`<div class="code">
      <div class="tabs">
        ${tab("curl", "curl")}${tab("python", "Python")}
        <button
          type="button"
          @click=${async () => {
            await navigator.clipboard.writeText(text);
            this.copied = true;
            setTimeout(() => (this.copied = false), 1500);
          }}
        >${this.copied ? "Copied" : "Copy"}</button>
      </div>
      <pre tabindex="0" aria-label="The request as code">${text}</pre>
    </div>`;
  }
}

/** What was chosen the last time in this browser. @returns {Record<string, string>} */
function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    return Object.fromEntries(CHOICES.filter((name) => typeof found[name] === "string").map((name) => [name, found[name]]));
  } catch {
    return {};
  }
}

/** @param {Record<string, string>} values */
function keep(values) {
  const chosen = Object.fromEntries(CHOICES.filter((name) => values[name]).map((name) => [name, values[name]]));
  try {
    localStorage.setItem(KEPT, JSON.stringify(chosen));
  } catch {
    // A browser that keeps nothing: the next edit begins with the defaults.
  }
}

customElements.define("edit-start", EditStart);
