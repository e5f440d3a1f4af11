/** The filter of a drain as one changes it: a row for each condition. */
import { button, h } from "./dom.js";

/** The parts of a filter (docs/formats.md) in words. @type {Record<string, string>} */
const KINDS = {
  process: "process is",
  not_process: "process is not",
  dyno: "dyno is",
  not_dyno: "dyno is not",
  source: "source is",
  not_source: "source is not",
  stream: "stream is",
  not_stream: "stream is not",
  grep: "text has",
  exclude: "text has not",
  grep_re: "text matches (RE2)",
  exclude_re: "text doesn't match (RE2)",
};

/** @typedef {Record<string, string[] | boolean>} Filter as the API says it */

/**
 * @param {Filter} filter what it is now @param {(filter: Filter) => void} save @param {() => void} cancel
 * @returns {HTMLFormElement}
 */
export function filterForm(filter, save, cancel) {
  const rows = h("div");
  const more = button("Add a condition", () => add("process", "").focus());
  const fold = h("input", { type: "checkbox", checked: filter.ignore_case === true });

  /** @param {string} kind @param {string} value */
  const add = (kind, value) => {
    const which = h("select", { "aria-label": "Condition" });
    which.append(...Object.entries(KINDS).map(([name, words]) => h("option", { value: name }, words)));
    which.value = kind;
    const text = h("input", { "aria-label": "Value", required: true, maxlength: 1000 });
    text.value = value;
    const remove = () => {
      row.remove();
      more.focus();
    };
    const row = h("div", {}, which, text, button("✕", remove, { "aria-label": "Leave out this condition" }));
    rows.append(row);
    return text;
  };

  for (const [name, values] of Object.entries(filter)) {
    if (Array.isArray(values)) for (const value of values) add(name, value);
  }
  const says = h("p", {}, "Sent is what meets all of these; of several processes, dynos, sources or streams, one is enough.");
  const form = h("form", { "aria-label": "Filter" }, says, rows, more, h("label", {}, fold, " upper and lower case alike"));
  form.append(h("button", {}, "Save"), button("Cancel", cancel));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(read(rows, fold.checked));
  });
  return form;
}

/** @param {HTMLElement} rows @param {boolean} fold @returns {Filter} */
function read(rows, fold) {
  /** @type {Record<string, string[]>} */
  const wanted = {};
  for (const row of rows.children) {
    const [which, text] = /** @type {[HTMLSelectElement, HTMLInputElement]} */ (/** @type {unknown} */ (row.children));
    (wanted[which.value] ??= []).push(text.value);
  }
  return fold ? { ...wanted, ignore_case: true } : wanted;
}
