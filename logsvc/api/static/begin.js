/** Asks for the lines that the page shows first while everything else is on its way: a tenth of it, and so there sooner. */
import { asked, FIRST, headersFor, linesPath } from "./asking.js";
import { begin } from "./early.js";
import { View } from "./view.js";
import { app, token } from "./whose.js";

const view = View.parse(new URLSearchParams(location.search));
// Whoever comes for a certain line or range asks for other things first.
if (app && !view.at && !view.until) {
  const query = asked(view.filter(), { num: String(FIRST), tail: "true" });
  begin(new URL("/", location.href).href + linesPath(app, query), headersFor("text/event-stream", token()));
}
