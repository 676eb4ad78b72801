/** Icons: strokes on a grid of 24, as wide as the text is high; hidden from screen readers, which get the control's name. */
import { svg, html } from "./lit/lit.js";

/** @param {unknown} paths */
const icon = (paths) => html`<svg
  class="icon" width="18" height="18" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75"
  stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${paths}</svg>`;

export const icons = {
  wipe: icon(svg`<rect x="3" y="4" width="18" height="16" rx="2"/><path d="M12 4v16M9 12H6m9 0h3"/>`),
  wipeArrows: icon(svg`<path d="m8 7-5 5 5 5M16 7l5 5-5 5"/>`),
  side: icon(svg`<rect x="3" y="5" width="8" height="14" rx="1.5"/><rect x="13" y="5" width="8" height="14" rx="1.5"/>`),
  flip: icon(svg`<path d="M4 9h13l-3-3M20 15H7l3 3"/>`),
  difference: icon(svg`<circle cx="9" cy="12" r="6"/><circle cx="15" cy="12" r="6"/>`),
  swap: icon(svg`<path d="M7 4 3 8l4 4M3 8h13M17 12l4 4-4 4M21 16H8"/>`),
  fit: icon(svg`<path d="M4 9V5a1 1 0 0 1 1-1h4M15 4h4a1 1 0 0 1 1 1v4M20 15v4a1 1 0 0 1-1 1h-4M9 20H5a1 1 0 0 1-1-1v-4"/>`),
  full: icon(svg`<path d="M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7"/>`),
  star: svg`<path d="m12 3 2.7 5.7 6.3.8-4.6 4.3 1.2 6.2-5.6-3.1L6.4 20l1.2-6.2L3 9.5l6.3-.8z"/>`,
  plus: icon(svg`<path d="M12 5v14M5 12h14"/>`),
  minus: icon(svg`<path d="M5 12h14"/>`),
  check: icon(svg`<path d="m5 12.5 4.5 4.5L19 7.5"/>`),
  again: icon(svg`<path d="M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6"/>`),
  pen: icon(svg`<path d="M4 20h4L19.5 8.5a2 2 0 0 0 0-2.8l-1.2-1.2a2 2 0 0 0-2.8 0L4 16z"/>`),
  stop: icon(svg`<rect x="6" y="6" width="12" height="12" rx="2"/>`),
  play: icon(svg`<path d="M7 5v14l12-7z"/>`),
  link: icon(svg`<path d="M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.7-5.7l-1.2 1.2M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.7 5.7l1.2-1.2"/>`),
  download: icon(svg`<path d="M12 4v11m0 0-4-4m4 4 4-4M4 19h16"/>`),
  trash: icon(svg`<path d="M4 7h16M9 7V5a1 1 0 0 1 1-1h4a1 1 0 0 1 1 1v2M6 7l1 12a1 1 0 0 0 1 1h8a1 1 0 0 0 1-1l1-12"/>`),
  picture: icon(svg`<rect x="3" y="4" width="18" height="16" rx="2"/><circle cx="8.5" cy="9.5" r="1.5"/><path d="m4 18 5-5 4 4 3-3 4 4"/>`),
  close: icon(svg`<path d="M6 6l12 12M18 6 6 18"/>`),
  brush: icon(svg`<path d="M20 4c-5 1-9 4-11.5 8l3 3C15.5 13 19 9 20 4zM8 13c-3 0-3 3-5 6 4 1 8 0 8-3.5"/>`),
  eraser: icon(svg`<path d="m14 5 5 5-8.5 8.5H8L4.5 15zM4 21h16"/>`),
  box: icon(svg`<rect x="4" y="5" width="16" height="14" rx="1" stroke-dasharray="3.5 2.5"/>`),
  undo: icon(svg`<path d="M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-4"/>`),
  redo: icon(svg`<path d="m16 5 4 4-4 4M20 9H10a5 5 0 0 0 0 10h4"/>`),
  invert: icon(svg`<circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/>`),
  upload: icon(svg`<path d="M12 15V4m0 0L8 8m4-4 4 4M4 19h16"/>`),
  earlier: icon(svg`<path d="m14 6-6 6 6 6"/>`),
  later: icon(svg`<path d="m10 6 6 6-6 6"/>`),
};
