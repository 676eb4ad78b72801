// The types of what orchestrator/studio/lit/lit.js exports.
export { LitElement, html, svg, css, nothing } from "lit";
export { repeat } from "lit/directives/repeat.js";
export { live } from "lit/directives/live.js";
export { directive, Directive, PartType } from "lit/directive.js";
