/**
 * `<edit-mask>`: paint where a picture may change, in a dialog. `open(picture)` shows it; the event `mask` has a Mask, or null
 * where nothing is painted any more.
 *
 * What was done is kept as steps, which an undo draws again: a step is a few numbers, a copy of the picture is megabytes.
 *
 * @typedef {{kind: "line", erase: boolean, size: number, points: number[][]} | {kind: "box", points: number[][]} |
 *   {kind: "picture", canvas: HTMLCanvasElement} | {kind: "invert"} | {kind: "clear"}} Step
 * @typedef {{steps: Step[], soft: number, share: number, file: File, url: string, veil: string}} Mask `share` of the picture may
 *   change; `url` is the file's address, and `veil` that of a picture that shows it
 */
import { LitElement, css, html } from "./lit/lit.js";
import { controls } from "./shared-styles.js";
import { icons } from "./icons.js";
import { vars } from "./custom-properties.js";

const TOOLS = /** @type {const} */ (["brush", "eraser", "box"]);
const NAMES = { brush: "Brush", eraser: "Eraser", box: "Box" };
/** Pixels of the longer side that are painted on; the mask of a larger picture is scaled up. */
const MOST_SIDE = 2048;
/** Seldom a colour of photographs: red, green and blue. */
const TINT = [217, 70, 239];

class EditMask extends LitElement {
  static properties = {
    tool: { state: true },
    size: { state: true },
    soft: { state: true },
    steps: { state: true },
    undone: { state: true },
    share: { state: true },
    at: { state: true },
    failure: { state: true },
    picture: { state: true },
  };

  static styles = [
    controls,
    css`
      dialog {
        width: calc(100vw - 1rem);
        max-width: none;
        height: calc(100dvh - 1rem);
        max-height: none;
        padding: 0;
        overflow: hidden;
      }
      dialog[open] {
        display: grid;
        grid-template-rows: auto minmax(0, 1fr) auto;
      }
      .bar {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2) var(--gap-4);
        align-items: center;
        padding: var(--gap-2) var(--gap-3);
      }
      .group {
        display: flex;
        gap: 2px;
      }
      .bar label {
        display: flex;
        flex: 1 1 9rem;
        gap: var(--gap-2);
        align-items: center;
        max-width: 15rem;
      }
      .bar label span {
        margin: 0;
        white-space: nowrap;
      }
      .bar input[type="range"] {
        flex: 1;
        min-width: 3rem;
      }
      .group button,
      .group .button {
        min-width: 2.375rem;
        padding: 0 var(--gap-2);
        border-color: transparent;
        background: transparent;
      }
      .group button[aria-disabled="true"] {
        color: var(--text-soft);
        opacity: 0.6;
      }
      .group button[aria-checked="true"] {
        border-color: var(--line);
        background: var(--raised);
        color: var(--text);
      }
      .file {
        position: relative;
      }
      .file:focus-within {
        outline: 2px solid var(--focus);
      }
      .file input {
        position: absolute;
        inset: 0;
        width: 100%;
        opacity: 0;
        cursor: pointer;
      }
      .stage {
        display: grid;
        place-items: center;
        position: relative;
        min-height: 0;
        overflow: hidden;
        container-type: size;
        background: var(--stage);
      }
      .stage:focus-visible {
        outline-offset: -3px;
      }
      .paper {
        position: relative;
        width: min(100cqw, 100cqh * var(--shape));
        aspect-ratio: var(--shape);
        overflow: hidden;
        touch-action: none;
        cursor: crosshair;
        user-select: none;
      }
      .paper img,
      canvas {
        position: absolute;
        inset: 0;
        width: 100%;
        height: 100%;
      }
      canvas {
        opacity: 0.6;
        filter: blur(var(--soft));
      }
      .ring {
        position: absolute;
        left: var(--x);
        top: var(--y);
        width: var(--size);
        aspect-ratio: 1;
        border: 1.5px solid #fff;
        border-radius: 50%;
        outline: 1px solid #000a;
        pointer-events: none;
        translate: -50% -50%;
      }
      .ring.box {
        width: var(--w);
        height: var(--h);
        aspect-ratio: auto;
        border-radius: 0;
        translate: none;
      }
      .told {
        margin-inline-end: auto;
      }
      @media (max-width: 48rem) {
        .name,
        .told .keys {
          display: none;
        }
      }
    `,
  ];

  constructor() {
    super();
    /** @type {{url: string, width: number, height: number, name: string, mask?: Mask | null} | null} */
    this.picture = null;
    /** @type {typeof TOOLS[number]} */
    this.tool = "brush";
    /** 1 to 100. */
    this.size = 30;
    this.soft = 0;
    /** @type {Step[]} */
    this.steps = [];
    /** @type {Step[]} */
    this.undone = [];
    this.share = 0;
    /** Where the brush is, in shares of the picture. @type {number[] | null} */
    this.at = null;
    this.failure = "";
    /** The step under way. @type {any} */
    this._step = null;
  }

  /** @param {NonNullable<EditMask["picture"]>} picture */
  async open(picture) {
    Object.assign(this, { picture, steps: picture.mask?.steps ?? [], undone: [], soft: picture.mask?.soft ?? 0, failure: "", at: null });
    await this.updateComplete;
    const scale = Math.min(1, MOST_SIDE / Math.max(picture.width, picture.height));
    Object.assign(this._canvas, { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
    this._redraw();
    this._dialog.showModal();
    /** @type {HTMLElement} */ (this.renderRoot.querySelector(".stage")).focus();
  }

  get _dialog() {
    return /** @type {HTMLDialogElement} */ (this.renderRoot.querySelector("dialog"));
  }

  get _canvas() {
    return /** @type {HTMLCanvasElement} */ (this.renderRoot.querySelector("canvas"));
  }

  /** The brush's width, in shares of the longer side. */
  get _width() {
    return 0.4 * (this.size / 100) ** 2 + 0.002;
  }

  /** The standard deviation of the soft edge, in shares of the longer side. */
  get _blur() {
    return 0.03 * (this.soft / 100);
  }

  // --- drawing ---------------------------------------------------------------------------------------------------------

  _redraw() {
    contextOf(this._canvas).clearRect(0, 0, this._canvas.width, this._canvas.height);
    for (const step of this.steps) draw(this._canvas, step);
    this.share = painted(this._canvas);
  }

  /** @param {Step} step */
  _do(step) {
    draw(this._canvas, step);
    this._keep(step);
  }

  /** @param {Step} step one that was drawn */
  _keep(step) {
    this.steps = [...this.steps, step];
    this.undone = [];
    this.share = painted(this._canvas);
  }

  _undo() {
    const last = this.steps.at(-1);
    if (!last) return;
    this.steps = this.steps.slice(0, -1);
    this.undone = [...this.undone, last];
    this._redraw();
  }

  _redo() {
    const next = this.undone.at(-1);
    if (!next) return;
    this.undone = this.undone.slice(0, -1);
    this.steps = [...this.steps, next];
    this._redraw();
  }

  /** Begin with the brush, or what else is chosen. @param {number[]} point */
  _begin(point) {
    if (this.tool === "box") this._step = { kind: "box", points: [point, point] };
    else {
      this._step = { kind: "line", erase: this.tool === "eraser", size: this._width, points: [point] };
      draw(this._canvas, this._step);
    }
  }

  /** @param {number[]} point */
  _extend(point) {
    const step = this._step;
    if (step.kind === "box") step.points[1] = point;
    else {
      draw(this._canvas, { ...step, points: [step.points.at(-1), point] });
      step.points.push(point);
    }
  }

  _end() {
    const step = this._step;
    this._step = null;
    if (!step) return;
    if (step.kind === "box") this._do(step);
    else this._keep(step);
  }

  // --- pointers and keys -----------------------------------------------------------------------------------------------

  /** A point in shares of the picture. @param {PointerEvent} event */
  _point(event) {
    const box = this._canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  /** @param {PointerEvent} event */
  _down(event) {
    if (!event.isPrimary || event.button !== 0) return;
    /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    this._begin(this._point(event));
  }

  /** @param {PointerEvent} event */
  _move(event) {
    if (!event.isPrimary) return;
    this.at = this._point(event);
    if (!this._step) return;
    // A fast hand moves further than one event tells.
    for (const each of event.getCoalescedEvents?.() ?? []) this._extend(this._point(each));
    this._extend(this.at);
  }

  /** @param {KeyboardEvent} event */
  _pressed(event) {
    const key = event.key.toLowerCase();
    const action =
      event.ctrlKey || event.metaKey
        ? { z: () => (event.shiftKey ? this._redo() : this._undo()), y: () => this._redo() }[key]
        : {
            ...{ b: () => (this.tool = "brush"), e: () => (this.tool = "eraser"), x: () => (this.tool = "box") },
            ...{ "[": () => this._resize(-5), "]": () => this._resize(5), i: () => this._do({ kind: "invert" }) },
            ...{ delete: () => this._do({ kind: "clear" }) },
          }[key] ?? (event.target === this.renderRoot.querySelector(".stage") ? this._steered(event) : undefined);
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Painting by keys: arrows move the brush, Space puts it down and up. @param {KeyboardEvent} event */
  _steered({ key, shiftKey }) {
    const [x, y] = this.at ?? [0.5, 0.5];
    const by = shiftKey ? 0.1 : 0.02;
    const next = { ArrowLeft: [x - by, y], ArrowRight: [x + by, y], ArrowUp: [x, y - by], ArrowDown: [x, y + by] }[key];
    if (next)
      return () => {
        this.at = next.map((share) => Math.min(1, Math.max(0, share)));
        if (this._step) this._extend(this.at);
      };
    if (key !== " ") return undefined;
    return () => {
      this.at = [x, y];
      if (this._step) this._end();
      else this._begin(this.at);
    };
  }

  /** @param {number} by */
  _resize(by) {
    this.size = Math.min(100, Math.max(1, this.size + by));
  }

  // --- in and out ------------------------------------------------------------------------------------------------------

  /** Take a mask from a file: what is transparent in it may change, or what is white where nothing is. @param {Event} event */
  async _import(event) {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const file = field.files?.[0];
    field.value = "";
    if (!file) return;
    const { width, height } = this._canvas;
    try {
      const bitmap = await createImageBitmap(file);
      if (Math.abs(bitmap.width / bitmap.height / (width / height) - 1) > 0.02) {
        const { picture } = this;
        throw new Error(`It has ${bitmap.width} × ${bitmap.height} pixels, the picture ${picture?.width} × ${picture?.height}.`);
      }
      const canvas = canvasOf(width, height);
      const context = contextOf(canvas);
      context.drawImage(bitmap, 0, 0, width, height);
      const pixels = context.getImageData(0, 0, width, height);
      const { data } = pixels;
      const clear = data.some((level, index) => index % 4 === 3 && level < 255);
      for (let at = 0; at < data.length; at += 4) {
        data[at + 3] = clear ? 255 - data[at + 3] : 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
        data.set(TINT, at);
      }
      context.putImageData(pixels, 0, 0);
      this._do({ kind: "picture", canvas });
      this.failure = "";
    } catch (error) {
      this.failure = `${file.name} cannot be used as a mask. ${error instanceof DOMException ? "It is no picture." : error.message}`;
    }
  }

  async _done() {
    const { picture, steps, soft, share } = this;
    /** @type {Mask | null} */
    let detail = null;
    if (picture && share) {
      const made = softened(this._canvas, Math.round(this._blur * Math.max(this._canvas.width, this._canvas.height)));
      const whole = canvasOf(picture.width, picture.height);
      const context = contextOf(whole);
      context.fillRect(0, 0, whole.width, whole.height);
      context.globalCompositeOperation = "destination-out";
      context.drawImage(made, 0, 0, whole.width, whole.height);
      const file = new File([await blobOf(whole)], "mask.png", { type: "image/png" });
      detail = { steps, soft, share, file, url: URL.createObjectURL(file), veil: URL.createObjectURL(await blobOf(made)) };
    }
    this._dialog.close();
    this.dispatchEvent(new CustomEvent("mask", { detail }));
  }

  // --- rendering -------------------------------------------------------------------------------------------------------

  render() {
    const { width, height, url, name } = this.picture ?? { width: 1, height: 1, url: "", name: "" };
    const longer = Math.max(width, height);
    const button = (/** @type {unknown} */ icon, /** @type {string} */ label, /** @type {() => void} */ act, enabled = true) =>
      // Not `disabled`, which would take the focus, and with it the keys, from who has just undone all.
      html`<button type="button" title=${label} aria-label=${label.replace(/ \(.*/, "")} aria-disabled=${!enabled} @click=${act}>${icon}</button>`;
    const range = (/** @type {"size" | "soft"} */ field, /** @type {string} */ label, /** @type {number} */ least, /** @type {string} */ spoken) =>
      html`<label
        ><span>${label}</span
        ><input
          type="range"
          min=${least}
          max="100"
          aria-valuetext=${spoken}
          .value=${String(this[field])}
          @input=${(/** @type {any} */ event) => (this[field] = Number(event.target.value))}
      /></label>`;
    return html`<dialog aria-label="Where the picture may change" @keydown=${this._pressed}>
      <div class="bar">
        <div class="group" role="radiogroup" aria-label="Tool">
          ${TOOLS.map(
            (tool) => html`<button
              type="button"
              role="radio"
              aria-checked=${this.tool === tool}
              title="${NAMES[tool]} (${{ brush: "B", eraser: "E", box: "X" }[tool]})"
              @click=${() => (this.tool = tool)}
            >${icons[tool]}<span class="name">${NAMES[tool]}</span></button>`,
          )}
        </div>
        ${range("size", "Size", 1, `${Math.round(this._width * longer)} pixels`)}
        ${range("soft", "Soft edge", 0, `${Math.round(this._blur * longer)} pixels`)}
        <div class="group">
          ${button(icons.undo, "Undo (Ctrl Z)", () => this._undo(), this.steps.length > 0)}
          ${button(icons.redo, "Redo (Ctrl Y)", () => this._redo(), this.undone.length > 0)}
          ${button(icons.invert, "Invert (I)", () => this._do({ kind: "invert" }))}
          ${button(icons.trash, "Clear (Delete)", () => this._do({ kind: "clear" }), this.share > 0)}
          <span class="button file" title="Import a mask: what is transparent may change, or what is white"
            >${icons.upload}<input type="file" accept="image/png,image/webp,image/jpeg" aria-label="Import a mask" @change=${this._import}
          /></span>
        </div>
      </div>
      <div class="stage" tabindex="0" role="application" aria-label="Mask of ${name}: arrow keys move the brush, Space puts it down and up">
        <div
          class="paper"
          ${vars({ "--shape": width / height, "--soft": `${(this._blur * (this._canvas?.clientWidth ?? 0) * longer) / width}px` })}
          @pointerdown=${this._down}
          @pointermove=${this._move}
          @pointerup=${this._end}
          @pointercancel=${this._end}
          @pointerleave=${() => (this.at = this._step ? this.at : null)}
        >
          <img src=${url} alt="" draggable="false" />
          <canvas></canvas>
          ${this._ring(width, height)}
        </div>
      </div>
      <div class="bar">
        <p class="told small soft">
          ${this.failure ? html`<span role="alert">${this.failure}</span>` : html`<span role="status">${percent(this.share)} may change</span>`}
          <span class="keys"> · <kbd>[</kbd> <kbd>]</kbd> size · the rest stays as it is</span>
        </p>
        <button type="button" class="quiet" @click=${() => this._dialog.close()}>Cancel</button>
        <button type="button" class="primary" @click=${this._done}>Done</button>
      </div>
    </dialog>`;
  }

  /** The brush's outline, or the box that is drawn. @param {number} width @param {number} height */
  _ring(width, height) {
    const share = (/** @type {number} */ part) => `${part * 100}%`;
    if (this._step?.kind === "box") {
      const [left, top, right, bottom] = sides(this._step.points);
      const values = { "--x": share(left), "--y": share(top), "--w": share(right - left), "--h": share(bottom - top) };
      return html`<div class="ring box" ${vars(values)}></div>`;
    }
    if (!this.at) return "";
    const size = this.tool === "box" ? 0.01 : this._width;
    const values = { "--x": share(this.at[0]), "--y": share(this.at[1]), "--size": share((size * Math.max(width, height)) / width) };
    return html`<div class="ring" ${vars(values)}></div>`;
  }
}

/** @param {number} share */
export const percent = (share) => (share && share < 0.01 ? "less than 1 %" : `${Math.round(share * 100)} %`);

/** @param {number[][]} points two corners */
const sides = ([[x, y], [u, v]]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];

/** @param {number} width @param {number} height */
const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

/** @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2DSettings} [settings] */
const contextOf = (canvas, settings) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));

/** @param {HTMLCanvasElement} canvas @returns {Promise<Blob>} a PNG */
const blobOf = (canvas) => new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("The mask is too large for this browser."))), "image/png"));

/** @param {HTMLCanvasElement} canvas @param {Step} step */
function draw(canvas, step) {
  const context = contextOf(canvas);
  const { width, height } = canvas;
  context.save();
  context.fillStyle = context.strokeStyle = `rgb(${TINT})`;
  if (step.kind === "line") {
    if (step.erase) context.globalCompositeOperation = "destination-out";
    Object.assign(context, { lineWidth: step.size * Math.max(width, height), lineCap: "round", lineJoin: "round" });
    context.beginPath();
    for (const [x, y] of step.points) context.lineTo(x * width, y * height);
    // A line of one point has its caps.
    const [x, y] = step.points[step.points.length - 1];
    context.lineTo(x * width, y * height);
    context.stroke();
  } else if (step.kind === "box") {
    const [left, top, right, bottom] = sides(step.points);
    context.fillRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  } else if (step.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else {
    context.clearRect(0, 0, width, height);
    if (step.kind === "picture") context.drawImage(step.canvas, 0, 0);
  }
  context.restore();
}

/** The share that is painted. @param {HTMLCanvasElement} canvas */
function painted(canvas) {
  const small = contextOf(canvasOf(64, 64), { willReadFrequently: true });
  small.drawImage(canvas, 0, 0, 64, 64);
  const { data } = small.getImageData(0, 0, 64, 64);
  return data.reduce((sum, level, index) => (index % 4 === 3 ? sum + level : sum), 0) / (255 * 64 * 64);
}

/** The painting with a soft edge: three means over a square are close to a Gaussian. @param {HTMLCanvasElement} canvas @param {number} radius */
function softened(canvas, radius) {
  const { width, height } = canvas;
  const made = canvasOf(width, height);
  const context = contextOf(made);
  context.drawImage(canvas, 0, 0);
  if (!radius) return made;
  const pixels = context.getImageData(0, 0, width, height);
  let from = pixels.data.filter((_, index) => index % 4 === 3);
  let to = new Uint8ClampedArray(from.length);
  for (let pass = 0; pass < 3; pass++) {
    for (const [lines, next, length, step] of [
      [height, width, width, 1],
      [width, 1, height, width],
    ]) {
      for (let line = 0; line < lines; line++) {
        const level = (/** @type {number} */ at) => from[line * next + Math.min(length - 1, Math.max(0, at)) * step];
        let sum = 0;
        for (let at = -radius; at <= radius; at++) sum += level(at);
        for (let at = 0; at < length; at++) {
          to[line * next + at * step] = sum / (2 * radius + 1);
          sum += level(at + radius + 1) - level(at - radius);
        }
      }
      [from, to] = [to, from];
    }
  }
  from.forEach((level, index) => pixels.data.set([...TINT, level], 4 * index));
  context.putImageData(pixels, 0, 0);
  return made;
}

customElements.define("edit-mask", EditMask);
