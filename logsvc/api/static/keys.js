/** What keys do, and the list of them. They work while the focus is in the pane, so that a dashboard keeps its own. */
import { button, h } from "./dom.js";

/** @typedef {{keys: string[], says: string, does: string}} Key `does` names a method of the pane's commands */

/** @type {Key[]} */
const KEYS = [
  { keys: ["/"], says: "Search", does: "search" },
  { keys: ["f"], says: "Show only lines that match the search, or all again", does: "only" },
  { keys: ["n"], says: "Next match", does: "next" },
  { keys: ["p"], says: "Previous match", does: "previous" },
  { keys: [" "], says: "Pause, or go on live", does: "pause" },
  { keys: ["Home"], says: "First line kept", does: "start" },
  { keys: ["End"], says: "Newest line, and on live", does: "live" },
  { keys: ["ArrowDown", "j"], says: "Next line", does: "down" },
  { keys: ["ArrowUp", "k"], says: "Previous line", does: "up" },
  { keys: ["Enter"], says: "Unfold the line: its fields, details and a link", does: "unfold" },
  { keys: ["w"], says: "Wrap long lines, or scroll sideways", does: "wrap" },
  { keys: ["t"], says: "Times: local, UTC, relative", does: "times" },
  { keys: ["Escape"], says: "Close what is open; leave the search; take back the range", does: "escape" },
  { keys: ["?"], says: "This list", does: "help" },
];

/** @type {Record<string, string>} */
const NAMES = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", Escape: "Esc" };

/**
 * @param {HTMLElement} element @param {Record<string, (() => void) | undefined>} commands
 */
export function listen(element, commands) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const [target] = event.composedPath();
    const { key } = event;
    if (target instanceof Element && takes(target, key)) return;
    const found = KEYS.find(({ keys }) => keys.includes(key));
    const command = found && commands[found.does];
    if (!command) return;
    event.preventDefault();
    command();
  });
}

/** Whether an element has a use of its own for a key. @param {Element} target @param {string} key */
function takes(target, key) {
  if (key === "Escape") return target.closest("dialog") !== null;
  if (target.closest("dialog")) return true;
  if (target.matches("input, select, textarea")) return true;
  return target.matches("button, a, summary") && (key === " " || key === "Enter");
}

/** The list as a dialog, closed. */
export function help() {
  const list = h("dl", { class: "keys" });
  for (const { keys, says } of KEYS) {
    const names = keys.flatMap((key, number) => [number ? " " : "", h("kbd", {}, NAMES[key] ?? key)]);
    list.append(h("dt", {}, ...names), h("dd", {}, says));
  }
  const dialog = h(
    "dialog",
    { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    list,
    h("p", {}, "Shift and a click on a chip shows all but that. A drag over the plot zooms into a range."),
  );
  dialog.append(button("Close", () => dialog.close()));
  return dialog;
}
