/**
 * `<edit-compare>`: two pictures as one, moved and zoomed in step.
 *
 * Both pictures lie in a box of the first one's size, which one transform places; so they cannot drift apart.
 *
 * Where a picture has `reduced`, the address of it with at most so many pixels a side, that is shown while it is enough. A
 * difference is always that of the whole pictures: four times enhanced, compression would be seen.
 *
 * Keys, while it has the focus: Space flips, M changes the mode, C swaps, Z is fit or 1:1, + and - zoom, arrows move the line.
 *
 * Properties: `a` and `b`, two pictures. Without them it gets those of a comparison that is shared, or a session's source and best
 * candidate, see session-element.js.
 *
 * @typedef {{url: string, label: string, width: number, height: number, reduced?: (side: number) => string,
 *   places?: {left: number, top: number, right: number, bottom: number, word: string}[]}} Picture
 */
import { css, html, nothing } from "./lit/lit.js";
import { icons } from "./icons.js";
import { controls } from "./shared-styles.js";
import { vars } from "./custom-properties.js";
import { SessionElement } from "./session-element.js";
import { best, find } from "./state.js";

/** @typedef {"wipe" | "side" | "flip" | "difference"} Mode */
export const MODES = /** @type {Mode[]} */ (["wipe", "side", "flip", "difference"]);
const NAMES = { wipe: "Wipe", side: "Side by side", flip: "Flip", difference: "Difference" };
const MOST_ZOOM = 32;
/** Pixels a side of reduced pictures. */
const SIDES = [1024, 2048];
/** The factor by which a difference is made visible. */
const GAIN = 4;

export class EditCompare extends SessionElement {
  static properties = {
    a: { attribute: false },
    b: { attribute: false },
    mode: { type: String, reflect: true },
    failure: { state: true },
    wipe: { state: true },
    showsB: { state: true },
    swapped: { state: true },
    view: { state: true },
    pixel: { state: true },
  };

  static styles = [
    controls,
    css`
      :host {
        display: grid;
        grid-template-rows: minmax(0, 1fr) auto;
        min-height: 20rem;
        background: var(--stage);
        color: var(--text);
        font: var(--body) / 1.5 var(--font);
      }
      .stage {
        display: grid;
        grid-auto-columns: minmax(0, 1fr);
        grid-auto-flow: column;
        gap: 2px;
        position: relative;
        min-height: 0;
        overflow: hidden;
        touch-action: none;
        cursor: grab;
        user-select: none;
      }
      .stage.moving {
        cursor: grabbing;
      }
      .stage:focus-visible {
        outline-offset: -3px;
      }
      .pane,
      .layer {
        position: relative;
        min-height: 0;
        overflow: hidden;
      }
      .layer {
        position: absolute;
        inset: 0;
      }
      .box {
        position: absolute;
        left: 0;
        top: 0;
        width: var(--width);
        height: var(--height);
        transform-origin: 0 0;
        transform: translate(var(--x), var(--y)) scale(var(--scale));
      }
      img {
        display: block;
        width: 100%;
        height: 100%;
        object-fit: contain;
        -webkit-user-drag: none;
      }
      .sharp img {
        image-rendering: pixelated;
      }
      .clipped {
        clip-path: inset(0 0 0 var(--wipe));
      }
      .difference {
        filter: brightness(var(--gain));
        isolation: isolate;
        background: #000;
      }
      .difference .layer + .layer {
        mix-blend-mode: difference;
      }
      .line {
        position: absolute;
        inset-block: 0;
        left: var(--wipe);
        width: 44px;
        margin-left: -22px;
        cursor: ew-resize;
        touch-action: none;
      }
      .line::before {
        content: "";
        position: absolute;
        inset-block: 0;
        left: 21px;
        width: 2px;
        background: #fff;
        box-shadow: 0 0 0 0.5px #0006;
      }
      .line::after {
        content: "";
        position: absolute;
        top: calc(50% - 17px);
        left: 5px;
        width: 34px;
        height: 34px;
        border-radius: 50%;
        background: #fff;
        box-shadow: 0 0 0 0.5px #0004, 0 2px 8px #0005;
      }
      .line svg {
        position: absolute;
        z-index: 1;
        top: calc(50% - 9px);
        left: 13px;
        color: #18181b;
      }
      .line:focus-visible {
        outline: none;
      }
      .line:focus-visible::after {
        outline: 3px solid var(--focus);
      }
      .tag {
        position: absolute;
        top: var(--gap-3);
        max-width: 45%;
        padding: 0.125rem 0.5rem;
        overflow: hidden;
        border-radius: var(--radius-small);
        background: #131314d9;
        color: #fff;
        font-size: 0.75rem;
        text-overflow: ellipsis;
        white-space: nowrap;
        pointer-events: none;
      }
      .tag.left {
        left: var(--gap-3);
      }
      .tag.right {
        right: var(--gap-3);
      }
      .place {
        position: absolute;
        inset: var(--top) var(--right) var(--bottom) var(--left);
        border: calc(1.5px / var(--scale)) solid #fbbf24;
        outline: calc(1px / var(--scale)) solid #0008;
        pointer-events: none;
      }
      .place span {
        position: absolute;
        left: 0;
        bottom: 100%;
        padding: 0 0.3em;
        background: #131314d9;
        color: #fde68a;
        font-size: calc(11px / var(--scale));
        white-space: nowrap;
      }
      .pixel {
        position: absolute;
        bottom: var(--gap-3);
        left: var(--gap-3);
        display: flex;
        gap: var(--gap-2);
        align-items: center;
        padding: 0.125rem 0.5rem;
        border-radius: var(--radius-small);
        background: #131314d9;
        color: #fff;
        font: 0.6875rem / 1.5 var(--mono);
        pointer-events: none;
      }
      .swatch {
        width: 0.75rem;
        height: 0.75rem;
        border-radius: 2px;
        background: var(--colour);
        box-shadow: inset 0 0 0 1px #fff5;
      }
      .bar {
        display: flex;
        flex-wrap: wrap;
        gap: var(--gap-2);
        align-items: center;
        justify-content: space-between;
        padding: var(--gap-2) var(--gap-3);
        border-block-start: 1px solid var(--line);
        background: var(--surface);
      }
      .group {
        display: flex;
        gap: 2px;
        align-items: center;
      }
      .bar button {
        min-width: 2.375rem;
        padding: 0 var(--gap-2);
        border-color: transparent;
        background: transparent;
      }
      .bar button[aria-checked="true"] {
        background: var(--raised);
        color: var(--text);
        border-color: var(--line);
      }
      .bar .zoom {
        min-width: 3.75rem;
      }
      .empty {
        display: grid;
        place-items: center;
        color: var(--text-soft);
      }
      @container (max-width: 34rem) {
        .step {
          display: none;
        }
        .name {
          position: absolute;
          width: 1px;
          height: 1px;
          overflow: hidden;
          clip-path: inset(50%);
        }
      }
      :host {
        container-type: inline-size;
      }
    `,
  ];

  constructor() {
    super();
    /** @type {Picture | null} */
    this.a = null;
    /** @type {Picture | null} */
    this.b = null;
    /** @type {Mode} */
    this.mode = "wipe";
    this.failure = "";
    this.wipe = 0.5;
    this.showsB = true;
    this.swapped = false;
    /** Scale and offset in CSS pixels; null fits the picture into the stage. @type {{scale: number, x: number, y: number} | null} */
    this.view = null;
    /** @type {{x: number, y: number, colours: string[]} | null} */
    this.pixel = null;
    /** Where the pointer is. @type {{x: number, y: number} | null} */
    this._over = null;
    this._pointers = new Map();
    this._resized = new ResizeObserver(() => this.requestUpdate());
    this.addEventListener("keydown", (event) => this.handleKey(event));
  }

  connectedCallback() {
    super.connectedCallback();
    this._resized.observe(this);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this._resized.disconnect();
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    super.willUpdate(changed);
    const before = /** @type {Picture | undefined} */ (changed.get("a"));
    // Another picture of the same shape keeps the view, so that turns can be compared at one spot.
    if (before && this.a && before.width * this.a.height !== before.height * this.a.width) this.view = null;
  }

  /** Get the pictures of a session, and those that are made later. @param {import("./remote-session.js").RemoteSession} remote */
  opened(remote) {
    /** @type {import("./state.js").Session | null} */
    let session = null;
    const show = () => {
      if (session) this.a = { url: remote.picture("/source"), label: "Source", ...sizeOf(session.created.source) };
      const top = session && (session.finished?.best ?? best(session));
      const image = session && find(session, top)?.image;
      if (!top || !image) return;
      const url = remote.picture(`/turns/${top.turn}/candidates/${top.candidate}/image`);
      this.b = { url, label: `Turn ${top.turn}`, ...sizeOf(image) };
    };
    remote.addEventListener("change", show);
    let left = () => {};
    let gone = false;
    const follow = async () => {
      const pictures = remote.shared ? (await remote.share()).pictures : [];
      if (gone) return;
      if (pictures.length) [this.a, this.b] = pictures.map((each) => sharedPicture(remote, each));
      else
        left = remote.watch((state, failure) => {
          [session, this.failure] = [state, failure];
          show();
        });
    };
    follow().catch((error) => (this.failure = error.message));
    return () => {
      gone = true;
      left();
    };
  }

  firstUpdated() {
    // The stage has its size only now.
    this.requestUpdate();
  }

  // --- geometry -------------------------------------------------------------------------------------------------------

  get _size() {
    const shown = this.a ?? this.b;
    return { width: shown?.width || 1, height: shown?.height || 1 };
  }

  /** The size of a pane in CSS pixels. */
  get _pane() {
    const stage = this.renderRoot?.querySelector(".stage");
    const width = stage?.clientWidth || 1;
    return { width: this.mode === "side" ? (width - 2) / 2 : width, height: stage?.clientHeight || 1 };
  }

  get _fit() {
    const [pane, size] = [this._pane, this._size];
    const scale = Math.min(pane.width / size.width, pane.height / size.height, MOST_ZOOM);
    return { scale, x: (pane.width - size.width * scale) / 2, y: (pane.height - size.height * scale) / 2 };
  }

  get _placed() {
    return this.view ?? this._fit;
  }

  /** Zoom so that a point of the pane stays where it is. @param {number} scale @param {{x: number, y: number}} [at] */
  zoomTo(scale, at) {
    const [pane, fit, now] = [this._pane, this._fit, this._placed];
    const point = at ?? { x: pane.width / 2, y: pane.height / 2 };
    const next = Math.min(Math.max(scale, Math.min(fit.scale, 1 / devicePixelRatio)), MOST_ZOOM);
    const ratio = next / now.scale;
    this._place({ scale: next, x: point.x - (point.x - now.x) * ratio, y: point.y - (point.y - now.y) * ratio });
  }

  /** Show a part of the picture, of which some always stays in sight. @param {{scale: number, x: number, y: number}} view */
  _place({ scale, x, y }) {
    const [pane, size] = [this._pane, this._size];
    const within = (/** @type {number} */ at, /** @type {number} */ room, /** @type {number} */ length) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, at));
    this.view = {
      scale,
      x: within(x, pane.width, size.width * scale),
      y: within(y, pane.height, size.height * scale),
    };
  }

  /** Fit the picture into the stage, or show its pixels 1:1. @param {{x: number, y: number}} [at] */
  toggleZoom(at) {
    if (this.view) this.view = null;
    else this.zoomTo(1 / devicePixelRatio, at);
  }

  // --- pointers -------------------------------------------------------------------------------------------------------

  /** A point of the pane under the pointer. @param {MouseEvent} event */
  _at(event) {
    const box = /** @type {Element} */ (this.renderRoot.querySelector(".stage")).getBoundingClientRect();
    const x = event.clientX - box.left;
    const pane = this._pane.width;
    return { x: this.mode === "side" && x > pane ? x - pane - 2 : x, y: event.clientY - box.top, stage: x / box.width };
  }

  /** @param {PointerEvent} event */
  _down(event) {
    if (event.button !== 0) return;
    const stage = /** @type {HTMLElement} */ (event.currentTarget);
    stage.setPointerCapture(event.pointerId);
    const onLine = event.composedPath().some((each) => each instanceof Element && each.classList.contains("line"));
    // A picture that fits has nowhere to go, so the whole of it moves the line.
    const line = this.mode === "wipe" && (onLine || !this.view);
    this._pointers.set(event.pointerId, { ...this._at(event), line: line && this._pointers.size === 0 });
    stage.classList.toggle("moving", true);
    if (line && this._pointers.size === 1) this.wipe = clamp(this._at(event).stage);
  }

  /** @param {PointerEvent} event */
  _move(event) {
    const before = this._pointers.get(event.pointerId);
    const at = this._at(event);
    if (!before) {
      this._readPixel(at);
      return;
    }
    if (this._pointers.size === 2) this._pinch(event.pointerId, before, at);
    else if (before.line) this.wipe = clamp(at.stage);
    else if (this.view) this._place({ ...this.view, x: this.view.x + at.x - before.x, y: this.view.y + at.y - before.y });
    this._pointers.set(event.pointerId, { ...before, ...at });
  }

  /** @param {number} id @param {{x: number, y: number}} before @param {{x: number, y: number}} at */
  _pinch(id, before, at) {
    const other = [...this._pointers].find(([known]) => known !== id)?.[1] ?? at;
    const ratio = Math.hypot(at.x - other.x, at.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    this.zoomTo(this._placed.scale * ratio, { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
  }

  /** @param {PointerEvent} event */
  _up(event) {
    this._pointers.delete(event.pointerId);
    /** @type {HTMLElement} */ (event.currentTarget).classList.toggle("moving", this._pointers.size > 0);
  }

  /** @param {WheelEvent} event */
  _wheel(event) {
    event.preventDefault();
    this.zoomTo(this._placed.scale * Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), this._at(event));
  }

  /** The colours of both pictures under the pointer. @param {{x: number, y: number}} at */
  _readPixel(at) {
    this._over = at;
    const [{ scale, x, y }, { width, height }] = [this._placed, this._size];
    const point = { x: Math.floor((at.x - x) / scale), y: Math.floor((at.y - y) / scale) };
    const inside = point.x >= 0 && point.y >= 0 && point.x < width && point.y < height;
    const images = [...this.renderRoot.querySelectorAll("img")].filter((image) => image.complete && image.naturalWidth);
    this.pixel = inside && images.length ? { ...point, colours: images.map((image) => colourOf(image, point, width, height)) } : null;
  }

  // --- keys -----------------------------------------------------------------------------------------------------------

  /** Do what a key means here; whether it meant anything. @param {KeyboardEvent} event */
  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return false;
    const onControl = event.composedPath()[0] instanceof HTMLButtonElement;
    /** @type {Record<string, () => void>} */
    const actions = {
      m: () => this.setMode(MODES[(MODES.indexOf(this.mode) + 1) % MODES.length]),
      c: () => this.swap(),
      z: () => this.toggleZoom(),
      "+": () => this.zoomTo(this._placed.scale * 1.25),
      "=": () => this.zoomTo(this._placed.scale * 1.25),
      "-": () => this.zoomTo(this._placed.scale / 1.25),
      ...(onControl ? {} : { " ": () => this.flip() }),
    };
    const action = actions[event.key.toLowerCase()];
    if (!action) return false;
    event.preventDefault();
    action();
    return true;
  }

  /** Show the other picture alone. */
  flip() {
    if (this.mode === "flip") this.showsB = !this.showsB;
    else {
      this.setMode("flip");
      this.showsB = false;
    }
  }

  swap() {
    this.swapped = !this.swapped;
    this.dispatchEvent(new CustomEvent("swap-change", { detail: this.swapped, bubbles: true, composed: true }));
  }

  /** @param {Mode} mode */
  setMode(mode) {
    // A view in half the width is another one.
    if ((mode === "side") !== (this.mode === "side")) this.view = null;
    this.mode = mode;
    this.showsB = true;
    this.dispatchEvent(new CustomEvent("mode-change", { detail: mode, bubbles: true, composed: true }));
  }

  /** @param {KeyboardEvent} event */
  _lineKey(event) {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.wipe = clamp(this.wipe + step);
  }

  // --- rendering ------------------------------------------------------------------------------------------------------

  /** The address of a picture in as many pixels as are seen. @param {Picture} picture */
  _url({ url, reduced, width, height }) {
    const longer = Math.max(this._size.width, this._size.height);
    const side = SIDES.find((each) => each >= longer * this._placed.scale * devicePixelRatio);
    return reduced && side && this.mode !== "difference" && side < Math.max(width, height) ? reduced(side) : url;
  }

  render() {
    const { scale, x, y } = this._placed;
    const { width, height } = this._size;
    const values = {
      ...{ "--width": `${width}px`, "--height": `${height}px`, "--x": `${x}px`, "--y": `${y}px`, "--scale": scale },
      ...{ "--wipe": `${this.wipe * 100}%`, "--gain": GAIN },
    };
    if (this.failure) return html`<div class="stage empty"><p class="error" role="alert">${this.failure}</p></div>`;
    if (!this.a && !this.b) return html`<div class="stage empty"><slot name="empty">No picture yet</slot></div>`;
    return html`
      <div
        class="stage ${scale * devicePixelRatio > 2 ? "sharp" : ""}"
        ${vars(values)}
        tabindex="0"
        role="group"
        aria-label=${this._spoken()}
        @pointerdown=${this._down}
        @pointermove=${this._move}
        @pointerup=${this._up}
        @pointercancel=${this._up}
        @pointerleave=${() => (this._over = this.pixel = null)}
        @dblclick=${(/** @type {MouseEvent} */ event) => this.toggleZoom(this._at(event))}
        @wheel=${{ handleEvent: (/** @type {WheelEvent} */ event) => this._wheel(event), passive: false }}
      >
        ${this._panes()} ${this.pixel ? this._pixelValues(this.pixel) : nothing}
      </div>
      ${this._bar(scale)}
    `;
  }

  /** Only while there is one of them. */
  get _pair() {
    return /** @type {Picture[]} */ (this.swapped ? [this.b ?? this.a, this.a ?? this.b] : [this.a ?? this.b, this.b ?? this.a]);
  }

  _spoken() {
    const [first, second] = this._pair;
    return first === second ? first.label : `${NAMES[this.mode]}: ${first.label} and ${second.label}`;
  }

  _panes() {
    const [first, second] = this._pair;
    if (first === second) return html`<div class="pane">${this._picture(first)}${this._tag("left", first)}</div>`;
    switch (this.mode) {
      case "side":
        return [first, second].map((each) => html`<div class="pane">${this._picture(each)}${this._tag("left", each)}</div>`);
      case "flip": {
        const shown = this.showsB ? second : first;
        // Both stay loaded, so that a flip is immediate.
        return html`<div class="pane">
          <div class="layer" ?hidden=${shown === second}>${this._picture(first)}</div>
          <div class="layer" ?hidden=${shown === first}>${this._picture(second)}</div>
          ${this._tag("left", shown)}
        </div>`;
      }
      case "difference":
        return html`<div class="pane difference">
            <div class="layer">${this._picture(first, false)}</div>
            <div class="layer">${this._picture(second, false)}</div>
          </div>
          <span class="tag left">${first.label} ↔ ${second.label}, difference × ${GAIN}</span>`;
      default:
        return html`<div class="pane">
          <div class="layer">${this._picture(first)}</div>
          <div class="layer clipped">${this._picture(second)}</div>
          ${this._tag("left", first)}${this._tag("right", second)}
          <div
            class="line"
            tabindex="0"
            role="slider"
            aria-label="Wipe between ${first.label} and ${second.label}"
            aria-valuemin="0"
            aria-valuemax="100"
            aria-valuenow=${Math.round(this.wipe * 100)}
            @keydown=${this._lineKey}
          >${icons.wipeArrows}</div>
        </div>`;
    }
  }

  /** @param {Picture} picture @param {boolean} [marked] whether what the critique points at is drawn */
  _picture(picture, marked = true) {
    return html`<div class="box">
      <img src=${this._url(picture)} crossorigin="anonymous" alt=${picture.label} decoding="async" draggable="false" @load=${this._loaded} />
      ${marked
        ? (picture.places ?? []).map(
            (place) => html`<div
              class="place"
              ${vars({
                "--left": `${place.left / 10}%`,
                "--top": `${place.top / 10}%`,
                "--right": `${100 - place.right / 10}%`,
                "--bottom": `${100 - place.bottom / 10}%`,
              })}
            >${place.word ? html`<span>${place.word}</span>` : nothing}</div>`,
          )
        : nothing}
    </div>`;
  }

  _loaded() {
    if (this._over) this._readPixel(this._over);
    this.dispatchEvent(new CustomEvent("picture-shown", { bubbles: true, composed: true }));
  }

  /** @param {"left" | "right"} side @param {Picture} picture */
  _tag(side, picture) {
    return html`<span class="tag ${side}">${picture.label}</span>`;
  }

  /** @param {{x: number, y: number, colours: string[]}} pixel */
  _pixelValues({ x, y, colours }) {
    return html`<div class="pixel">
      <span>${x}, ${y}</span>
      ${colours.map((colour) => html`<span class="swatch" ${vars({ "--colour": colour })}></span><span>${colour}</span>`)}
    </div>`;
  }

  /** @param {number} scale */
  _bar(scale) {
    const alone = !this.a || !this.b;
    const percent = Math.round(scale * devicePixelRatio * 100);
    return html`<div class="bar">
      <div class="group" role="radiogroup" aria-label="How to compare (M)">
        ${MODES.map(
          (mode) => html`<button
            role="radio"
            aria-checked=${this.mode === mode}
            title="${NAMES[mode]} (M)"
            ?disabled=${alone}
            @click=${() => this.setMode(mode)}
          >${icons[mode]}<span class="name">${NAMES[mode]}</span></button>`,
        )}
      </div>
      <div class="group">
        <button title="Swap sides (C)" aria-label="Swap sides" ?disabled=${alone} @click=${this.swap}>${icons.swap}</button>
        <button class="step" title="Zoom out (-)" aria-label="Zoom out" @click=${() => this.zoomTo(scale / 1.25)}>${icons.minus}</button>
        <button class="zoom number" title="Fit or 1:1 (Z)" aria-label="Zoom ${percent} %, fit or 1:1" @click=${() => this.toggleZoom()}>
          ${percent} %
        </button>
        <button class="step" title="Zoom in (+)" aria-label="Zoom in" @click=${() => this.zoomTo(scale * 1.25)}>${icons.plus}</button>
        <slot name="tools"></slot>
      </div>
    </div>`;
  }
}

/** @param {number} part */
const clamp = (part) => Math.min(1, Math.max(0, part));

/** @param {{width: number, height: number}} image */
const sizeOf = ({ width, height }) => ({ width, height });

/** A picture of a shared comparison. @param {import("./remote-session.js").RemoteSession} remote @param {import("./remote-session.js").Share["pictures"][0]} shared @returns {Picture} */
export function sharedPicture(remote, { name, image }) {
  const [turn, candidate] = name.split("/");
  const part = candidate ? `/turns/${turn}/candidates/${candidate}/image` : "/source";
  const label = !candidate ? "Source" : candidate === "1" ? `Turn ${turn}` : `Turn ${turn}, candidate ${candidate}`;
  return { url: remote.picture(part), label, ...sizeOf(image) };
}

/** One pixel of canvas, from which colours are read. @type {CanvasRenderingContext2D | null} */
let reader = null;

/** A pixel's colour, as #rrggbb. @param {HTMLImageElement} image @param {{x: number, y: number}} point @param {number} width @param {number} height */
function colourOf(image, point, width, height) {
  reader ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  if (!reader) return "";
  reader.clearRect(0, 0, 1, 1);
  // A picture that is smaller than the box is seen enlarged.
  const [x, y] = [((point.x + 0.5) * image.naturalWidth) / width, ((point.y + 0.5) * image.naturalHeight) / height];
  reader.drawImage(image, Math.floor(x), Math.floor(y), 1, 1, 0, 0, 1, 1);
  try {
    const [red, green, blue] = reader.getImageData(0, 0, 1, 1).data;
    return `#${[red, green, blue].map((level) => level.toString(16).padStart(2, "0")).join("")}`;
  } catch {
    return "";
  }
}

customElements.define("edit-compare", EditCompare);
