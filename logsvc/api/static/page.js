/** The page of the service: the list of apps, and the pane of one. */
import { h } from "./dom.js";
import { Drains } from "./drains.js";
import { drop } from "./early.js";
import "./element.js";
import { Refused, Service } from "./source.js";
import { ago } from "./times.js";
import { app, keepToken, token } from "./whose.js";

const main = /** @type {HTMLElement} */ (document.querySelector("main"));
const nav = /** @type {HTMLElement} */ (document.querySelector("nav"));
const service = new Service(new URL("/", location.href).href, token);
const choice = h("select", { "aria-label": "App" });

/** ms between two looks at the list of apps, where it is the page and where it is a choice beside a pane. */
const AGAIN = app ? 30_000 : 5000;

/** Ask for a token. @param {() => void} then */
function signIn(then) {
  if (document.querySelector("form.token")) return;
  const field = h("input", { type: "password", autocomplete: "off", "aria-label": "Token", required: true });
  const form = h("form", { class: "token" }, "This service asks for a token. This tab keeps it until it is closed.", field);
  form.append(h("button", {}, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    form.remove();
    then();
  });
  main.before(form);
  field.focus();
}

function showPane() {
  document.title = `${app} · logsvc`;
  const pane = h("log-pane", { app });
  pane.token = token;
  const expired = () =>
    signIn(() => {
      pane.token = token;
      pane.focus();
    });
  pane.addEventListener("sessionexpired", expired);
  main.replaceChildren(pane);
  pane.focus();
  const drains = new Drains(service, app, expired);
  choice.addEventListener("change", () => location.assign(`/apps/${encodeURIComponent(choice.value)}`));
  nav.append(choice, drains.button);
  document.body.append(drains.dialog);
}

/** @param {{app: string}[]} apps */
function showChoice(apps) {
  const names = new Set([app, ...apps.map((each) => each.app)]);
  // A list that is the same stays as it is: somebody may be choosing.
  if (names.size === choice.options.length && [...choice.options].every(({ value }) => names.has(value))) return;
  choice.replaceChildren(...[...names].map((name) => h("option", {}, name)));
  choice.value = app;
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

/** @param {unknown} error */
function showTrouble(error) {
  const why = error instanceof Refused ? `The service can't answer: ${error.message}` : "The service can't be reached.";
  main.replaceChildren(h("p", { class: "empty", role: "alert" }, `${why} Trying again.`));
}

async function look() {
  try {
    const { apps } = await service.apps(AbortSignal.timeout(10_000));
    if (app) showChoice(apps);
    else showApps(apps);
  } catch (error) {
    // Of an app, the pane says so itself.
    if (!app && error instanceof Refused && error.status === 401) {
      signIn(() => void look());
      return;
    }
    if (!app) showTrouble(error);
  }
  setTimeout(look, AGAIN);
}

if (app) {
  showPane();
  showChoice([]);
  setTimeout(drop);
  // The lines come first.
  setTimeout(look, 1000);
} else {
  void look();
}
