/** Elements without markup: text becomes text nodes, whatever it says. */

/** @typedef {HTMLElementTagNameMap & {"log-pane": import("./element.js").LogPane}} Tags */

/**
 * @template {keyof Tags} T
 * @param {T} tag @param {Record<string, string | number | boolean | undefined>} [attributes] true is an empty
 *   attribute, false and undefined are none
 * @param {...(Node | string)} children
 * @returns {Tags[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = /** @type {Tags[T]} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * @param {string | Node} label @param {() => void} action @param {Record<string, string | boolean>} [attributes]
 */
export function button(label, action, attributes = {}) {
  const made = h("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", action);
  return made;
}

const NAMESPACE = "http://www.w3.org/2000/svg";

/** @param {string} tag @param {Record<string, string | number>} [attributes] @param {...(Node | string)} children */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {number} count */
export function counted(count) {
  return count.toLocaleString("en-GB");
}

/** @param {number} count as short as a chip needs it */
export function short(count) {
  if (count < 10_000) return counted(count);
  return count < 1_000_000 ? `${(count / 1000).toFixed(count < 100_000 ? 1 : 0)}k` : `${(count / 1e6).toFixed(1)}M`;
}
