/** The page of the service: the list of apps, and the pane of one. */
import { h } from "./dom.js";
import { Service } from "./source.js";
import { ago } from "./times.js";

const main = /** @type {HTMLElement} */ (document.querySelector("main"));
const nav = /** @type {HTMLElement} */ (document.querySelector("nav"));
const app = decodeURIComponent(/^\/apps\/([^/]+)$/.exec(location.pathname)?.[1] ?? "");
const service = new Service(new URL("/", location.href).href);

/** ms between two looks at the list of apps. */
const AGAIN = 5000;

function showPane() {
  document.title = `${app} · logsvc`;
  const pane = h("log-pane", { app });
  main.replaceChildren(pane);
  pane.focus();
}

/** @param {{app: string}[]} apps */
function showChoice(apps) {
  const choice = h("select", { "aria-label": "App" });
  for (const name of new Set([app, ...apps.map((each) => each.app)])) choice.append(h("option", {}, name));
  choice.value = app;
  choice.addEventListener("change", () => location.assign(`/apps/${encodeURIComponent(choice.value)}`));
  nav.replaceChildren(choice);
}

/** @param {{app: string, processes: string[], last: string}[]} apps */
function showApps(apps) {
  if (!apps.length) {
    main.replaceChildren(h("p", { class: "empty" }, "No app has written a line yet. This page looks again by itself."));
    return;
  }
  const items = apps.map(({ app: name, processes, last }) =>
    h(
      "li",
      {},
      h("a", { href: `/apps/${encodeURIComponent(name)}` }, name),
      h("span", {}, processes.join(", ")),
      h("time", { datetime: last }, `${ago(Date.now() - Date.parse(last))} ago`),
    ),
  );
  main.replaceChildren(h("ul", { class: "apps" }, ...items));
}

async function look() {
  try {
    const { apps } = await service.apps(AbortSignal.timeout(10_000));
    if (app) {
      showChoice(apps);
      return;
    }
    showApps(apps);
  } catch {
    if (!app) main.replaceChildren(h("p", { class: "empty", role: "alert" }, "The service can't be reached. Trying again."));
  }
  setTimeout(look, AGAIN);
}

if (app) {
  showPane();
  showChoice([]);
  // The lines come first.
  setTimeout(look, 1000);
} else {
  void look();
}
