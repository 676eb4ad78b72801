/** Sets CSS custom properties of an element: a style attribute would be refused by the content security policy. */
import { Directive, PartType, directive } from "./lit/lit.js";

class CustomProperties extends Directive {
  /** @param {any} part */
  constructor(part) {
    super(part);
    if (part.type !== PartType.ELEMENT) throw new Error("it stands within a tag: <div ${vars({...})}>");
  }

  /** @param {Record<string, string | number>} _ */
  render(_) {}

  /** @param {{element: HTMLElement}} part @param {[Record<string, string | number>]} values */
  update({ element }, [values]) {
    for (const [name, value] of Object.entries(values)) element.style.setProperty(name, String(value));
  }
}

/** `<div ${vars({ "--x": "3px" })}>` */
export const vars = directive(CustomProperties);
