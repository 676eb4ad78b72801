/** Styles of the controls that every element of the studio uses. */
import { css } from "./lit/lit.js";

/** A screen of pictures with what is known of them at the side, or below where there is no room. */
export const workbench = css`
  :host {
    display: grid;
    grid-template: auto minmax(0, 1fr) / minmax(0, 1fr) minmax(20rem, 26rem);
    grid-template-areas: "head head" "work side";
    height: calc(100dvh - var(--header));
    min-height: 34rem;
  }
  .head {
    grid-area: head;
    display: flex;
    gap: var(--gap-2) var(--gap-4);
    align-items: center;
    padding: var(--gap-3) clamp(0.75rem, 2vw, 1.5rem);
    border-block-end: 1px solid var(--line);
    background: var(--surface);
  }
  h1 {
    font-size: var(--large);
    font-weight: 600;
  }
  h2 {
    font-size: var(--body);
    font-weight: 650;
  }
  .work {
    grid-area: work;
    display: grid;
    grid-template-rows: minmax(0, 1fr) auto;
    min-width: 0;
    min-height: 0;
  }
  .side {
    grid-area: side;
    display: grid;
    border-inline-start: 1px solid var(--line);
    background: var(--surface);
  }
`;

export const controls = css`
  *,
  ::before,
  ::after {
    box-sizing: border-box;
  }
  :host([hidden]),
  [hidden] {
    display: none !important;
  }
  h1,
  h2,
  h3,
  p,
  figure,
  dl,
  dd,
  ol,
  ul {
    margin: 0;
    padding: 0;
  }
  ol,
  ul {
    list-style: none;
  }
  a {
    color: inherit;
    text-underline-offset: 0.2em;
  }
  button,
  input,
  select,
  textarea {
    font: inherit;
    color: inherit;
  }
  :focus-visible {
    outline: 2px solid var(--focus);
    outline-offset: 2px;
  }
  button,
  .button {
    display: inline-flex;
    align-items: center;
    justify-content: center;
    gap: var(--gap-2);
    min-height: 2.375rem;
    padding: 0 var(--gap-3);
    border: 1px solid var(--line);
    border-radius: var(--radius-small);
    background: var(--surface);
    font-size: var(--small);
    font-weight: 550;
    text-decoration: none;
    white-space: nowrap;
    cursor: pointer;
    transition:
      background var(--quick),
      border-color var(--quick);
  }
  button:hover:not(:disabled),
  .button:hover {
    background: var(--raised);
    border-color: var(--line-strong);
  }
  button:disabled {
    color: var(--text-soft);
    cursor: not-allowed;
  }
  button.primary,
  .button.primary {
    border-color: var(--ink);
    background: var(--ink);
    color: var(--on-ink);
  }
  button.primary:hover:not(:disabled),
  .button.primary:hover {
    border-color: var(--ink);
    background: color-mix(in oklab, var(--ink) 86%, var(--page));
  }
  button.primary:disabled {
    border-color: var(--line);
    background: var(--raised);
    color: var(--text-soft);
  }
  .icon {
    flex: none;
  }
  button.quiet {
    border-color: transparent;
    background: transparent;
  }
  button.danger {
    color: var(--bad);
  }
  button[aria-pressed="true"],
  button[aria-checked="true"] {
    border-color: var(--ink);
    background: var(--ink);
    color: var(--on-ink);
  }
  input:not([type="checkbox"], [type="range"], [type="file"]),
  select,
  textarea {
    width: 100%;
    min-height: 2.5rem;
    padding: var(--gap-2) var(--gap-3);
    border: 1px solid var(--line-strong);
    border-radius: var(--radius-small);
    background: var(--surface);
  }
  textarea {
    resize: vertical;
    line-height: 1.45;
  }
  ::placeholder {
    color: var(--text-soft);
    opacity: 1;
  }
  input[type="checkbox"] {
    width: 1.125rem;
    height: 1.125rem;
    accent-color: var(--ink);
  }
  input[type="range"] {
    accent-color: var(--ink);
  }
  label > span,
  .label {
    display: block;
    margin-block-end: var(--gap-1);
    color: var(--text-soft);
    font-size: var(--small);
  }
  kbd {
    min-width: 1.25rem;
    padding: 0 0.3rem;
    border: 1px solid color-mix(in oklab, currentColor 35%, transparent);
    border-radius: 0.25rem;
    font: 0.6875rem / 1.125rem var(--mono);
    text-align: center;
  }
  .soft {
    color: var(--text-soft);
  }
  .small {
    font-size: var(--small);
  }
  .number {
    font-variant-numeric: tabular-nums;
  }
  .error {
    padding: var(--gap-3) var(--gap-4);
    border-radius: var(--radius-small);
    background: var(--bad-wash);
    color: var(--bad);
    font-size: var(--small);
    overflow-wrap: anywhere;
  }
  .hidden-label {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
  @media (max-width: 40rem) {
    button kbd {
      display: none;
    }
  }
  dialog {
    width: min(44rem, calc(100vw - 2rem));
    max-height: calc(100dvh - 2rem);
    padding: var(--gap-5);
    border: 1px solid var(--line);
    border-radius: var(--radius);
    background: var(--surface);
    color: var(--text);
    box-shadow: var(--shadow);
  }
  dialog::backdrop {
    background: #0009;
  }
  @keyframes shimmer {
    to {
      background-position: -200% 0;
    }
  }
  .skeleton {
    background: linear-gradient(100deg, var(--raised) 40%, var(--line) 50%, var(--raised) 60%) 0 0 / 200% 100%;
    animation: shimmer 1.6s linear infinite;
  }
  @media (prefers-reduced-motion: reduce) {
    .skeleton {
      animation: none;
    }
  }
`;
