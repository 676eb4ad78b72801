/** `<edit-start>`: choose pictures, say what should change, and make a session. */
import { LitElement, css, html, nothing, repeat } from "./lit/lit.js";
import * as api from "./api.js";
import { controls } from "./shared-styles.js";
import { copy } from "./clipboard.js";
import { go } from "./navigation.js";
import { icons } from "./icons.js";
import { curl, python } from "./snippets.js";
import { taken } from "./handed-over.js";
import { percent } from "./mask-editor.js";

const STRATEGIES = [
  ["think", "Think while editing", "Critique every edit, refine the instruction, try again"],
  ["adaptive", "Adaptive", "As many turns as the edit is hard"],
  ["think_best_of_n", "Think, best of n", "Several candidates a turn"],
  ["best_of_n", "Best of n", "One instruction, several seeds, the best is kept"],
  ["single", "Single", "One plain edit"],
];
const KEPT = "editthinker.start";
const PRESETS = "editthinker.presets";
/** Fields of the form that are kept in this browser. */
const CHOICES = ["model", "thinker", "strategy", "max_turns", "candidates", "review", "budget_edits", "deadline_s", "seed"];
/** The fields of the API for which an error is shown at the pictures. */
const PICTURES = /^(image|images)\b/;
const MOST_PICTURES = 16;
const EXAMPLES = ["make it feel like golden hour", "make it look like a faded 1970s print", "make it brighter and warmer"];

/** @typedef {{file: File, url: string, mask: import("./mask-editor.js").Mask | null}} Chosen */

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
    presets: { state: true },
    dragged: { state: true },
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
        grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr));
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
        height: 7.5rem;
        border-radius: var(--radius-small);
        background: var(--stage);
        object-fit: contain;
      }
      .pictures li:first-child img {
        height: clamp(12rem, 44vh, 30rem);
        border-radius: var(--radius);
      }
      .pictures .veil {
        position: absolute;
        inset: 0;
        background: none;
        opacity: 0.6;
        object-fit: contain;
        pointer-events: none;
      }
      .dragged {
        opacity: 0.4;
      }
      .on {
        position: absolute;
        display: flex;
        gap: var(--gap-1);
      }
      .on.top {
        top: var(--gap-2);
        right: var(--gap-2);
      }
      .on.bottom {
        right: var(--gap-2);
        bottom: var(--gap-2);
      }
      .on button {
        min-width: 2rem;
        min-height: 2rem;
        padding: 0 0.4rem;
        border-color: transparent;
        background: #131314cc;
        color: #fff;
      }
      .on button:hover:not(:disabled) {
        border-color: transparent;
        background: #131314;
      }
      .on button:disabled {
        color: #a8a8b1;
      }
      .pictures li > span {
        position: absolute;
        top: var(--gap-2);
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
        min-height: 7.5rem;
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
      @media (max-width: 30rem) {
        .options {
          grid-template-columns: 1fr 1fr;
        }
      }
      @media (pointer: coarse), (max-width: 40rem) {
        .keyboard {
          display: none;
        }
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
      .presets {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2);
        align-items: center;
        margin-block-end: var(--gap-4);
      }
      .presets span {
        display: inline-flex;
      }
      .presets span button {
        max-width: 12rem;
        overflow: hidden;
        text-overflow: ellipsis;
      }
      .presets span > :first-child {
        border-start-end-radius: 0;
        border-end-end-radius: 0;
      }
      .presets span > :last-child {
        border-inline-start: 0;
        border-start-start-radius: 0;
        border-end-start-radius: 0;
        padding: 0 0.4rem;
      }
      .presets input {
        flex: 1 1 9rem;
        width: auto;
        max-width: 14rem;
      }
      [aria-invalid="true"] {
        border-color: var(--bad) !important;
      }
      .field {
        padding: var(--gap-1) 0 0;
        background: none;
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
      .tabs :nth-child(2) {
        margin-inline-end: auto;
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
    /** An error of the API, at the field that it names. @type {{message: string, param: string} | null} */
    this.failure = null;
    this.over = false;
    this.copied = false;
    /** @type {"curl" | "python"} */
    this.snippet = "curl";
    /** Options by the name that they were saved under. @type {Record<string, Record<string, string>>} */
    this.presets = stored(PRESETS);
    /** @type {Chosen | null} */
    this.dragged = null;
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
    const added = [...files].filter((file) => file.type.startsWith("image/")).map((file) => ({ file, url: URL.createObjectURL(file), mask: null }));
    if (added.length) this.pictures = [...this.pictures, ...added].slice(0, MOST_PICTURES);
  }

  /** @param {Chosen} picture */
  _remove(picture) {
    URL.revokeObjectURL(picture.url);
    this.pictures = this.pictures.filter((each) => each !== picture);
  }

  /** Put a picture at another place; the first one is the source. @param {Chosen} picture @param {number} at */
  async _moveTo(picture, at) {
    const others = this.pictures.filter((each) => each !== picture);
    this.pictures = [...others.slice(0, at), picture, ...others.slice(at)];
    await this.updateComplete;
    // An element that is moved loses the focus.
    const moved = this.renderRoot.querySelectorAll(".pictures li")[at];
    /** @type {HTMLElement} */ (moved.querySelector(".bottom button:not(:disabled)"))?.focus();
  }

  /** @param {Chosen} picture */
  async _paint(picture) {
    const { width, height } = await sizeOf(picture.url);
    const editor = /** @type {any} */ (this.renderRoot.querySelector("edit-mask"));
    editor.open({ url: picture.url, width, height, name: picture.file.name, mask: picture.mask });
  }

  /** @param {import("./mask-editor.js").Mask | null} mask */
  _masked(mask) {
    const [source] = this.pictures;
    for (const url of [source.mask?.veil, source.mask?.url]) if (url) URL.revokeObjectURL(url);
    source.mask = mask;
    this._forgive("mask");
    this.requestUpdate();
  }

  /** The chosen editor, as the API lists it; undefined until it is known. */
  get _editor() {
    return this.models?.data.find(({ id }) => !this.values.model || id === this.values.model);
  }

  // --- presets ---------------------------------------------------------------------------------------------------------

  /** What a preset has of the form. */
  get _options() {
    return Object.fromEntries(["prompt", ...CHOICES].filter((name) => this.values[name]).map((name) => [name, this.values[name]]));
  }

  _save() {
    const field = this.renderRoot.querySelector(".presets input");
    const name = /** @type {HTMLInputElement} */ (field).value.trim();
    if (!name) return;
    this._keepPresets({ ...this.presets, [name]: this._options });
    /** @type {HTMLInputElement} */ (field).value = "";
  }

  /** @param {string} name */
  _apply(name) {
    const { prompt, ...options } = this.presets[name];
    // What was written stays, unless the preset has words of its own and nothing was.
    this.values = { ...Object.fromEntries(CHOICES.map((each) => [each, ""])), ...options, prompt: this.values.prompt || prompt || "" };
  }

  /** @param {Record<string, Record<string, string>>} presets */
  _keepPresets(presets) {
    this.presets = presets;
    store(PRESETS, presets);
  }

  // --- sending ---------------------------------------------------------------------------------------------------------

  /** @param {string} param a field that was changed */
  _forgive(param) {
    if (this.failure?.param === param) this.failure = null;
  }

  /** Show an error where it belongs, and lead there. @param {string} message @param {string} param */
  async _refused(message, param) {
    this.failure = { message, param: PICTURES.test(param) ? "image" : param };
    if (CHOICES.includes(param)) /** @type {HTMLDetailsElement} */ (this.renderRoot.querySelector("details")).open = true;
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.renderRoot.querySelector('[aria-invalid="true"]'))?.focus();
  }

  /** @param {InputEvent} event */
  _input(event) {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (!field.name) return;
    this.values = { ...this.values, [field.name]: field.value };
    this._forgive(field.name);
  }

  /** The fields that are sent: those that were filled in. */
  get _fields() {
    return Object.entries(this.values).filter(([, value]) => value !== "");
  }

  /** @param {SubmitEvent} event */
  async _submit(event) {
    event.preventDefault();
    if (!this.pictures.length) return this._refused("Choose a picture first: drop it, paste it, or click the field above.", "image");
    if (!this.values.prompt.trim()) return this._refused("Say what should change.", "prompt");
    this.busy = true;
    this.failure = null;
    const form = new FormData();
    for (const { file } of this.pictures) form.append("image", file);
    if (this._mask) form.append("mask", this._mask.file);
    for (const [name, value] of this._fields) form.append(name, value);
    keep(this.values);
    try {
      const session = await api.create(form, crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
      go(`/studio/sessions/${session.id}`);
    } catch (error) {
      await this._refused(error.message, error.param ?? "");
    }
    this.busy = false;
  }

  /** The mask of the source. */
  get _mask() {
    return this.pictures[0]?.mask;
  }

  /** The error of a field. @param {string} param */
  _error(param) {
    if (this.failure?.param !== param) return nothing;
    return html`<p class="error field" role="alert" id="error-${param}">${this.failure.message}</p>`;
  }

  /** Whether a field has an error, as `aria-invalid` says it. @param {string} param */
  _invalid(param) {
    return this.failure?.param === param ? "true" : nothing;
  }

  render() {
    if (!this.may.edit) return html`<p class="soft">This key may look at sessions, and not make any.</p>`;
    const shownAtField = [...CHOICES, "image", "mask", "prompt"].includes(this.failure?.param ?? "");
    return html`<form
      novalidate
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
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.renderRoot.querySelector("form")?.requestSubmit();
      }}
    >
      <h1>What should change?</h1>
      <div>
        ${this.pictures.length ? this._chosen() : this._drop()} ${this._tooMany()} ${this._error("image")} ${this._error("mask")}
      </div>
      <div>
        <label>
          <span class="hidden-label">Instruction</span>
          <textarea name="prompt" required maxlength="32000" placeholder="Describe the edit, as you would to a retoucher" aria-invalid=${this._invalid("prompt")} aria-describedby=${this._describing("prompt")} .value=${this.values.prompt}></textarea>
        </label>
        ${this._error("prompt")}
        ${this.values.prompt ? nothing : this._examples()}
      </div>
      ${this.failure && !shownAtField ? html`<p class="error" role="alert">${this.failure.message}</p>` : nothing}
      <div class="send">
        <button class="primary" ?disabled=${this.busy}>${this.busy ? "Sending…" : "Edit"}</button>
        <span class="soft small keyboard">or <kbd>Ctrl</kbd> <kbd>Enter</kbd></span>
      </div>
      <details>
        <summary>Options${this._summary()}</summary>
        <div>${this._presets()} ${this._choices()}</div>
      </details>
      <details>
        <summary>The same with curl or Python</summary>
        ${this._code()}
      </details>
    </form>
    <edit-mask @mask=${(/** @type {CustomEvent} */ event) => this._masked(event.detail)}></edit-mask>`;
  }

  /** The id of a field's error. @param {string} param */
  _describing(param) {
    return this.failure?.param === param ? `error-${param}` : nothing;
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
      aria-invalid=${this._invalid("image")}
      @change=${(/** @type {Event} */ event) => {
        const field = /** @type {HTMLInputElement} */ (event.target);
        this._forgive("image");
        this._add(field.files ?? []);
        field.value = "";
      }}
    />`;
  }

  _chosen() {
    const most = this._editor?.images ?? MOST_PICTURES;
    return html`<ul class="pictures" aria-label="Pictures">
      ${repeat(this.pictures, ({ url }) => url, (picture, index) => this._picture(picture, index))}
      ${this.pictures.length < most ? html`<li class="more">Add a reference${this._chooser("Add references")}</li>` : nothing}
    </ul>`;
  }

  /** @param {Chosen} picture @param {number} index */
  _picture(picture, index) {
    const { name } = picture.file;
    const button = (/** @type {unknown} */ icon, /** @type {string} */ label, /** @type {() => void} */ act) =>
      html`<button type="button" title=${label} aria-label="${label}: ${name}" @click=${act}>${icon}</button>`;
    return html`<li
      class=${this.dragged === picture ? "dragged" : ""}
      draggable="true"
      @dragstart=${(/** @type {DragEvent} */ event) => {
        event.dataTransfer?.setData("text/plain", name);
        this.dragged = picture;
      }}
      @dragend=${() => (this.dragged = null)}
      @dragenter=${() => this.dragged && this.dragged !== picture && this._moveTo(this.dragged, index)}
    >
      <img src=${picture.url} alt=${name} draggable="false" />
      ${index === 0 && picture.mask ? html`<img class="veil" src=${picture.mask.veil} alt="" />` : nothing}
      <span>${index ? `Picture ${index + 1}` : "Source"}</span>
      <div class="on top">${button(icons.close, "Remove", () => this._remove(picture))}</div>
      <div class="on bottom">
        ${index ? nothing : this._maskButtons(picture)}
        ${index ? button(icons.earlier, "Move forward", () => this._moveTo(picture, index - 1)) : nothing}
        ${index + 1 < this.pictures.length ? button(icons.later, "Move back", () => this._moveTo(picture, index + 1)) : nothing}
      </div>
    </li>`;
  }

  /** @param {Chosen} picture */
  _maskButtons(picture) {
    const { mask } = picture;
    const refused = this._editor?.mask === false ? `${this._editor.id} takes no mask` : "";
    return html`<button
        type="button"
        title=${refused || "Paint where the picture may change"}
        ?disabled=${!!refused && !mask}
        aria-invalid=${this._invalid("mask")}
        @click=${() => this._paint(picture)}
      >
        ${icons.brush}${mask ? `Mask: ${percent(mask.share)} may change` : "Mask"}
      </button>
      ${mask ? html`<button type="button" aria-label="Remove the mask" @click=${() => this._masked(null)}>${icons.close}</button>` : nothing}`;
  }

  /** What the chosen editor does not take, before it is sent. */
  _tooMany() {
    const editor = this._editor;
    const [count, most] = [this.pictures.length, editor?.images ?? MOST_PICTURES];
    if (count <= most) return nothing;
    return html`<p class="soft small">${editor?.id} takes ${most === 1 ? "one picture" : `${most} pictures`}: choose another editor, or remove ${count - most}.</p>`;
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
      ><select name=${name} aria-invalid=${this._invalid(name)} aria-describedby=${this._describing(name)}>
        ${choices.map(([value, text]) => html`<option value=${value} ?selected=${(this.values[name] ?? "") === value}>${text}</option>`)}
      </select>${this._error(name)}</label
    >`;
  }

  /** @param {string} name @param {string} label @param {{min?: number, max?: number, placeholder: string}} range */
  _number(name, label, { min = 1, max, placeholder }) {
    return html`<label
      ><span>${label}</span
      ><input type="number" name=${name} min=${min} max=${max ?? nothing} placeholder=${placeholder} aria-invalid=${this._invalid(name)} aria-describedby=${this._describing(name)} .value=${this.values[name] ?? ""}
    />${this._error(name)}</label>`;
  }

  _presets() {
    const current = JSON.stringify(Object.entries(this._options).filter(([name]) => name !== "prompt").sort());
    const same = (/** @type {Record<string, string>} */ { prompt: _, ...options }) => JSON.stringify(Object.entries(options).sort()) === current;
    const without = (/** @type {string} */ name) => Object.fromEntries(Object.entries(this.presets).filter(([each]) => each !== name));
    return html`<div class="presets" role="group" aria-label="Presets">
      ${Object.entries(this.presets).map(
        ([name, options]) => html`<span
          ><button type="button" aria-pressed=${same(options)} @click=${() => this._apply(name)}>${name}</button
          ><button type="button" aria-label="Delete the preset ${name}" @click=${() => this._keepPresets(without(name))}>${icons.close}</button></span
        >`,
      )}
      <input
        maxlength="60"
        aria-label="Name of a preset"
        placeholder="Save as a preset"
        @keydown=${(/** @type {KeyboardEvent} */ event) => {
          if (event.key !== "Enter" || event.ctrlKey) return;
          event.preventDefault();
          this._save();
        }}
      />
      <button type="button" @click=${this._save}>Save</button>
    </div>`;
  }

  _choices() {
    const named = (/** @type {{id: string}[]} */ list) => list.map(({ id }) => /** @type {[string, string]} */ ([id, id]));
    const strategy = STRATEGIES.find(([id]) => id === (this.values.strategy || "think"));
    return html`<div class="options">
      ${this._select("model", "Editor", [["", "Default"], ...named(this.models?.data ?? [])])}
      ${this._select("thinker", "Thinker", [["", "Default"], ...named(this.models?.thinkers ?? [])])}
      <div>
        ${this._select("strategy", "Strategy", [["", "Default"], ...STRATEGIES.map(([id, name]) => /** @type {[string, string]} */ ([id, name]))])}
        <p class="soft small">${strategy?.[2]}</p>
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
    const text = (this.snippet === "curl" ? curl : python)(location.origin, files, fields, !!this._mask);
    const tab = (/** @type {"curl" | "python"} */ name, /** @type {string} */ label) =>
      html`<button type="button" aria-pressed=${this.snippet === name} @click=${() => (this.snippet = name)}>${label}</button>`;
    return html`<div class="code">
      <div class="tabs">
        ${tab("curl", "curl")}${tab("python", "Python")}
        ${this._mask ? html`<a class="button" href=${this._mask.url} download="mask.png">${icons.download}mask.png</a>` : nothing}
        <button
          type="button"
          @click=${async () => {
            await copy(text);
            this.copied = true;
            setTimeout(() => (this.copied = false), 1500);
          }}
        >${this.copied ? "Copied" : "Copy"}</button>
      </div>
      <pre tabindex="0" aria-label="The request as code">${text}</pre>
    </div>`;
  }
}

/** What this browser keeps under a name. @param {string} name @returns {Record<string, any>} */
function stored(name) {
  try {
    const found = JSON.parse(localStorage.getItem(name) ?? "{}");
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

/** @param {string} name @param {Record<string, any>} values */
function store(name, values) {
  try {
    localStorage.setItem(name, JSON.stringify(values));
  } catch {
    // A browser that keeps nothing: it is gone with this page.
  }
}

/** What was chosen the last time in this browser. @returns {Record<string, string>} */
function kept() {
  const found = stored(KEPT);
  return Object.fromEntries(CHOICES.filter((name) => typeof found[name] === "string").map((name) => [name, found[name]]));
}

/** The pixels of a picture, upright. @param {string} url */
async function sizeOf(url) {
  const image = Object.assign(new Image(), { src: url });
  await image.decode();
  return { width: image.naturalWidth, height: image.naturalHeight };
}

/** @param {Record<string, string>} values */
function keep(values) {
  store(KEPT, Object.fromEntries(CHOICES.filter((name) => values[name]).map((name) => [name, values[name]])));
}

customElements.define("edit-start", EditStart);
