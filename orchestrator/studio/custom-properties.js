/** Sets CSS custom properties of an element: a style attribute would be refused by the content security policy. */
import { Directive, directive } from "./lit/lit.js";

class CustomProperties extends Directive {
  /** @param {Record<string, string | number>} _values */
  render(_values) {}

  /** @param {any} part @param {any[]} values */
  update({ element }, [values]) {
    for (const [name, value] of Object.entries(values)) element.style.setProperty(name, String(value));
  }
}

/** `<div ${vars({ "--x": "3px" })}>` */
export const vars = directive(CustomProperties);
