import { get } from "./api.js";
import { announce, byId, h } from "./dom.js";
import { bytes, coming, duration, instant, number, plural, span } from "./format.js";
import { CONNECTORS, STATES, airflowLink, badge, dagPath, exportPage, lateUnknown, lateness, missing, retrying, runPath, showTime } from "./shell.js";

const REFRESH_MS = 30_000;
const LIMIT = 100;
const SHOWN_PROBLEMS = 5;
const COLUMNS = [
  ["name", "Export"],
  ["state", "State"],
  ["connector", "Connector"],
  ["interval", "Interval"],
  ["window", "Last delivered window (UTC)"],
  ["lag", "Lag", true],
  ["rows", "Work orders", true],
  ["bytes", "Data", true],
  ["images", "Images", true],
  ["next", "Next run"],
  [null, "Airflow"],
];
const DEFAULTS = { search: "", state: "", connector: "", sort: "name", order: "asc", offset: "0" };

// The address holds the query, so that going back from an export or reloading shows the same list.
const view = { ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search)) };
let sent = 0;
let latest = 0; // of what the user asked for and of what is shown: an answer to anything before that is too old

function change(values) {
  Object.assign(view, { offset: "0" }, values);
  const asked = Object.entries(view).filter(([name, value]) => String(value) !== DEFAULTS[name]);
  history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
  return load();
}

/** Whether the focus is on what an answer replaces, and would be lost. */
const isBusy = () => ["exports", "pager"].some((id) => byId(id).contains(document.activeElement));

async function load({ unasked = false } = {}) {
  const turn = ++sent;
  if (!unasked) latest = turn;
  try {
    const found = await get("exports", { ...view, limit: LIMIT });
    if (turn < latest || (unasked && isBusy())) return; // asked for again meanwhile, or the user has gone on
    latest = turn;
    if (!found.exports.length && found.matching) {
      // there are fewer now: the last page that there is
      return change({ offset: String(Math.floor((found.matching - 1) / LIMIT) * LIMIT) });
    }
    showTime(found.as_of, refresh);
    byId("late-unknown").replaceChildren(lateUnknown(found));
    showHead();
    showStates(found);
    showConnectors(found.connectors);
    showRows(found);
    showPager(found);
  } catch (error) {
    if (turn >= latest) showMessage(error.message);
  }
}

function showHead() {
  const cells = COLUMNS.map(([key, label, numeric]) => {
    const own = view.sort === key;
    const sorted = own ? (view.order === "asc" ? "ascending" : "descending") : "none";
    const order = own && view.order === "asc" ? "desc" : "asc";
    const sort = () => change({ sort: key, order }).then(() => byId(`sort-${key}`).focus());
    const content = key ? h("button", { type: "button", id: `sort-${key}`, onclick: sort }, label) : label;
    return h("th", { scope: "col", class: numeric ? "number" : null, "aria-sort": key ? sorted : null }, content);
  });
  byId("head").replaceChildren(...cells);
}

function showStates({ states }) {
  const focused = document.activeElement?.dataset?.state;
  const chip = (state, label, count, title) =>
    h(
      "button",
      {
        type: "button",
        class: `chip ${state}`,
        title,
        "data-state": state,
        "aria-pressed": String(view.state === state),
        onclick: () => change({ state: view.state === state ? "" : state }),
      },
      label,
      h("span", { class: "count" }, number(count)),
    );
  const all = Object.values(states).reduce((sum, count) => sum + count, 0);
  const chips = Object.entries(STATES)
    .filter(([state]) => states[state] || view.state === state)
    .map(([state, [label, meaning]]) => chip(state, label, states[state] ?? 0, meaning));
  byId("states").replaceChildren(chip("", "All", all, "every export"), ...chips);
  if (focused !== undefined) byId("states").querySelector(`[data-state="${focused}"]`)?.focus();
}

function showConnectors(connectors) {
  const select = byId("connector");
  if (select.options.length !== connectors.length + 1) {
    const options = connectors.map((name) => h("option", { value: name }, CONNECTORS[name] ?? name));
    select.replaceChildren(h("option", { value: "" }, "All connectors"), ...options);
  }
  select.value = view.connector;
}

function showRows({ exports, matching, total }) {
  byId("body").replaceChildren(...exports.map(row));
  const place = matching > LIMIT ? `, ${number(Number(view.offset) + 1)} to ${number(Math.min(Number(view.offset) + LIMIT, matching))} shown` : "";
  announce(`${plural(matching, "export")} of ${number(total)}${place}`);
  byId("exports").hidden = matching === 0;
  byId("message").hidden = matching !== 0;
  byId("message").textContent = total
    ? "No export matches the filter."
    : "No exports yet. Put a customer file into include/customers, and it appears here within half a minute.";
}

function row(item) {
  const totals = item.totals ?? {};
  const images = totals.images_missing
    ? h("span", { class: "warn", title: `${plural(totals.images_missing, "image")} missing at the source` }, ` −${number(totals.images_missing)}`)
    : null;
  const refused = totals.refused_recipients
    ? h("span", { class: "warn", title: "the mail server permanently refused the last link for them" }, ` ${plural(totals.refused_recipients, "recipient")} refused`)
    : null;
  const others = item.failed - (item.state === "failed"); // without the newest, which the badge shows
  const failed = others
    ? h("span", { class: "soft", title: "windows with a failed run, in the export's whole history" }, ` ${number(others)} failed`)
    : null;
  const late = lateness(item);
  const run = item.last_run_id ? airflowLink(runPath(item.dag_id, item.last_run_id), {}, "last run") : null;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("a", { href: exportPage(item.dag_id) }, item.name)),
    h("td", {}, badge(item.state), retrying(item), missing(item), refused, failed),
    h("td", {}, CONNECTORS[item.connector] ?? item.connector),
    h("td", {}, item.interval),
    h("td", { class: "instant", title: item.delivered_at ? `delivered ${instant(item.delivered_at)} UTC` : null }, span(item.delivered_start, item.delivered_end)),
    h("td", { class: late ? "number bad" : "number", title: late }, duration(item.lag_seconds)),
    h("td", { class: "number" }, number(totals.work_orders)),
    h("td", { class: "number" }, bytes(totals.bytes)),
    h("td", { class: "number" }, number(totals.images), images),
    h("td", { class: "instant", title: item.next_run ? `${instant(item.next_run)} UTC` : null }, coming(item.next_run)),
    h("td", { class: "links" }, airflowLink(dagPath(item.dag_id), { "aria-label": `grid of ${item.name}` }, "grid"), run && " · ", run),
  );
}

function showPager({ matching }) {
  const offset = Number(view.offset);
  const go = (to, label) => {
    const none = to < 0 || to >= matching; // not `disabled`, which would lose the focus on the last page
    return h("button", { type: "button", "aria-disabled": String(none), onclick: () => none || turn(label, to) }, label);
  };
  const range = h("span", {}, `${number(offset + 1)}–${number(Math.min(offset + LIMIT, matching))} of ${number(matching)}`);
  const pages = [go(offset - LIMIT, "Previous"), range, go(offset + LIMIT, "Next")];
  byId("pager").replaceChildren(...(matching > LIMIT ? pages : []));
}

/** Shows another page of the list from its top and keeps the focus where it was. */
async function turn(label, offset) {
  await change({ offset: String(offset) });
  byId("exports").scrollIntoView({ block: "start" });
  [...byId("pager").querySelectorAll("button")].find((button) => button.textContent === label)?.focus({ preventScroll: true });
}

function showMessage(text) {
  byId("exports").hidden = true;
  byId("message").hidden = false;
  byId("message").textContent = text;
  announce(text);
}

async function loadProblems() {
  const { problems } = await get("problems").catch(() => ({ problems: [] }));
  const section = byId("problems");
  if (section.contains(document.activeElement)) return;
  const files = new Set(problems.map((problem) => problem.file)).size;
  section.hidden = files === 0;
  if (!files) return;
  const lines = problems.map((problem) => {
    const place = problem.line ? `${problem.file}:${problem.line}` : problem.file;
    const link = problem.dag_id ? h("a", { href: exportPage(problem.dag_id) }, place) : place;
    return h("li", {}, h("code", {}, link), ` ${problem.message}`);
  });
  const rest = lines.slice(SHOWN_PROBLEMS);
  const wasOpen = section.querySelector("details")?.open;
  section.replaceChildren(
    h("h2", { id: "problems-title" }, `${plural(files, "customer file")} ${files === 1 ? "is" : "are"} broken`),
    h("ul", {}, lines.slice(0, SHOWN_PROBLEMS)),
    rest.length ? h("details", { open: wasOpen }, h("summary", {}, `${plural(rest.length, "more problem")}`), h("ul", {}, rest)) : "",
  );
}

function refresh() {
  if (!document.hidden && !isBusy()) Promise.all([load({ unasked: true }), loadProblems()]);
}

let typing;
byId("search").value = view.search;
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ search: event.target.value.trim() }), 150);
});
byId("connector").addEventListener("change", (event) => change({ connector: event.target.value }));
setInterval(refresh, REFRESH_MS);
await Promise.all([load(), loadProblems()]);
document.body.dataset.ready = "true";
