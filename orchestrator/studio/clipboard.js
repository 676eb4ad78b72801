/** Copying: browsers have a clipboard for scripts over https and on this machine only; elsewhere a chosen text is copied. */

/** @param {string} text @param {Element} [within] an open dialog, outside of which nothing can be chosen */
export async function copy(text, within = document.body) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text });
  within.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  return undefined;
}
