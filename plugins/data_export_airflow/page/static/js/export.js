import { get } from "./api.js";
import { AuditCard } from "./audit.js";
import { Backfill, BackfillNotice } from "./backfill.js";
import { Calendar, MARKS } from "./calendar.js";
import { bars } from "./chart.js";
import { CheckCard } from "./check.js";
import { announce, byId, h, renew } from "./dom.js";
import { about, failed, files, lateWindows, missingImages, ranges, refused, retryNotice, unheard } from "./sections.js";
import { NONE, bytes, coming, duration, instant, number, plural, relative, span, windowsInWords, zoneOf } from "./format.js";
import { CONNECTORS, airflowLink, badge, dagPath, lateUnknown, lateness, missing, outsideLink, retrying, showError, showTime } from "./shell.js";
import { WINDOW_STATES } from "./tooltip.js";

const REFRESH_MS = 15_000;
const query = new URLSearchParams(location.search);
const dagId = query.get("dag") ?? "";
let before = query.get("before");
let calendar = null;
let sent = 0;
let latest = 0; // of what the user asked for and of what is shown: an answer to anything before that is too old
const check = new CheckCard(dagId);
const audit = new AuditCard(dagId);
const backfills = new BackfillNotice(dagId, (all) => {
  if (all) announce("The backfill has ended.");
  if (!isBusy()) load({ unasked: true });
});
// The card of the windows lasts: a refresh takes no focus from its buttons, and does not scroll the calendar back.
const earlier = turning("Earlier");
const later = turning("Later");
const legend = h("ul", { class: "legend", "aria-label": "Legend" });
const bar = h("div", { class: "selection", "aria-live": "polite" });
const frame = h("div", { class: "table-frame" });
const windowsCard = h("section", { class: "card windows", "aria-labelledby": "windows-title" },
  h("div", { class: "card-head" }, h("h2", { id: "windows-title" }, "Windows"), legend, h("div", { class: "period" }, earlier, later)),
  bar,
  frame);

async function load({ unasked = false } = {}) {
  const turn = ++sent;
  if (!unasked) latest = turn;
  try {
    const others = get("problems").catch(() => null); // requested at once, awaited later; the rest is shown without
    const found = await get(`exports/${encodeURIComponent(dagId)}`, { before });
    if (turn < latest || (unasked && isBusy())) return; // asked for again meanwhile, or the user has gone on
    latest = turn;
    show(found);
    const answer = await others;
    follow();
    if (answer && turn >= latest) showProblems(answer.problems.filter((problem) => problem.dag_id === dagId));
  } catch (error) {
    if (turn >= latest) showError(byId("export"), error);
  }
  document.body.dataset.ready = "true";
}

/** Once, to what a link from Airflow leads to. */
function follow() {
  if (document.body.dataset.ready) return;
  byId(location.hash.slice(1))?.scrollIntoView();
}

function showProblems(problems) {
  const lines = problems.map((problem) => h("li", {}, h("code", {}, `${problem.file}:${problem.line ?? ""}`), ` ${problem.message}`));
  byId("problems").replaceChildren(...lines);
  byId("problems").hidden = !lines.length;
}

function show(data) {
  const item = data.export;
  const main = byId("export");
  const zone = data.timezone;
  data.timezone = zoneOf(zone);
  data.zone = data.timezone === zone ? zone : `${zone} (times are shown in UTC)`;
  showTime(data.as_of, refresh);
  document.title = `${item.name} · Data exports`;
  byId("title").replaceChildren(item.name, " ", badge(item.state), retrying(item) ?? "", missing(item, data.timezone) ?? "");
  backfills.timezone = data.timezone;
  showWindows(data);
  renew(main, [
    head(data),
    byId("problems") ?? h("ul", { id: "problems", class: "problems", hidden: true }),
    backfills.element,
    lateUnknown(data),
    lateWindows(data),
    retryNotice(data),
    failed(data, dagId),
    refused(data),
    unheard(data, dagId),
    facts(data),
    windowsCard,
    h("section", { class: "card trend", "aria-label": "Trend" },
      bars("Work orders", data.windows, (totals) => totals.work_orders, number, data.timezone),
      bars("Data", data.windows, (totals) => totals.bytes, bytes, data.timezone)),
    check.element,
    audit.element,
    files(data, dagId, query.get("run")),
    missingImages(data),
    ranges(data, dagId),
    about(data),
  ].filter(Boolean));
  main.removeAttribute("aria-busy");
}

function head({ export: item, zone }) {
  const parts = [item.export_type, item.interval, zone, CONNECTORS[item.connector] ?? item.connector].filter(Boolean);
  const sheet = new URL(`api/exports/${encodeURIComponent(dagId)}/sheet`, document.baseURI).href;
  const handOver = outsideLink(sheet, { class: "button", title: "What the customer needs to set up the target and load the files; opens a page to send" }, "Hand-over sheet");
  return h("p", { class: "meta" }, parts.join(" · "), h("span", { class: "links" }, handOver, airflowLink(dagPath(dagId), {}, "Grid"), airflowLink(`${dagPath(dagId)}/runs`, {}, "Runs")));
}

function facts({ export: item, totals, states, timezone }) {
  const done = (states.delivered ?? 0) + (states.empty ?? 0);
  const due = done + (states.failed ?? 0) + (states.missing ?? 0) + (states.rest ?? 0) + (states.unproven ?? 0) + (states.retrying ?? 0) + (states.running ?? 0) + (states.queued ?? 0);
  const fact = (name, value, note, tone) => h("div", { class: tone }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, note) : ""));
  const images = totals?.images === undefined ? [] : [fact("Images", number(totals.images), `${number(totals.images_copied)} copied, ${bytes(totals.image_bytes)}`), fact("Missing at source", number(totals.images_missing), "images", totals.images_missing ? "warn" : null)];
  return h("dl", { class: "facts" },
    fact("Last delivered", span(item.delivered_start, item.delivered_end, timezone), item.delivered_at ? relative(item.delivered_at) : null),
    fact("Lag", duration(item.lag_seconds), lateness(item), item.late_seconds === null ? null : "bad"),
    fact("Next run", item.paused ? "paused" : coming(item.next_run), item.next_run ? `${instant(item.next_run)} UTC` : null),
    fact("Windows delivered", `${number(done)} of ${number(due)}`, "in the calendar below", done < due ? "warn" : null),
    totals ? fact("Work orders", number(totals.work_orders ?? (totals.sites ? null : 0)), bytes(totals.bytes ?? 0)) : fact("Work orders", NONE, "your Airflow user may not read receipts"),
    ...images,
  );
}

function showWindows(data) {
  const focused = [bar, frame].find((part) => part.contains(document.activeElement));
  calendar = new Calendar(data, data.may_backfill && data.periodic, (chosen) => showSelection(data, chosen));
  frame.replaceChildren(calendar.element);
  const shown = h("div", {}, idle(data));
  if (shown.innerHTML !== bar.innerHTML) bar.replaceChildren(...shown.childNodes); // else it would be read aloud again
  for (const [button, to] of [[earlier, data.older], [later, data.newer]]) {
    button.dataset.to = to ?? "";
    button.setAttribute("aria-disabled", String(!to)); // not `disabled`, which would lose the focus
  }
  const states = Object.keys(WINDOW_STATES).filter((state) => data.states[state]);
  const marked = Object.keys(MARKS).filter((mark) => calendar.element.querySelector(`.${mark}`));
  const entry = (kind, text) => h("li", {}, h("span", { class: kind }), text);
  legend.replaceChildren(...states.map((state) => entry(`cell ${state}`, `${WINDOW_STATES[state]} ${number(data.states[state])}`)), ...marked.map((mark) => entry(`cell delivered ${mark}`, MARKS[mark])), entry("never", "Never due"));
  if (focused && !focused.contains(document.activeElement)) (focused.querySelector("button:not([tabindex='-1'])") ?? earlier).focus({ preventScroll: true });
}

function turning(label) {
  return h("button", { type: "button", class: "button", onclick: ({ currentTarget: { dataset } }) => dataset.to && move(dataset.to) }, label);
}

function idle(data) {
  const gaps = (data.states.missing ?? 0) + (data.states.failed ?? 0);
  if (!data.periodic) return [h("span", { class: "soft" }, "This export has one window and one run. For another, trigger a run in Airflow.")];
  if (!data.may_backfill) return [h("span", { class: "soft" }, "Your Airflow user may not start runs.")];
  const fill = h("button", { type: "button", class: "button", onclick: () => calendar.selectGaps() }, `Select ${plural(gaps, "gap")}`);
  return [gaps ? fill : "", h("span", { class: "soft" }, "Click a gap to select it; Shift-click the other end of a range. Space selects any window.")];
}

function showSelection(data, chosen) {
  const focused = bar.contains(document.activeElement);
  bar.replaceChildren(...(chosen.length ? selected(data, chosen) : idle(data)));
  if (focused) (bar.querySelector("button") ?? calendar.element.querySelector("[tabindex='0']")).focus();
}

function selected(data, chosen) {
  const range = windowsInWords(chosen.length, chosen[0].start, chosen.at(-1).start, data.timezone);
  const start = () => new Backfill(data, chosen, started).show();
  return [
    h("strong", {}, "Selected:"), ` ${range}`,
    h("button", { type: "button", class: "button primary", onclick: start }, "Backfill …"),
    h("button", { type: "button", class: "button", onclick: () => calendar.clear() }, "Clear"),
  ];
}

function started() {
  backfills.load();
  load();
}

function move(to) {
  before = to;
  history.replaceState(null, "", `?${new URLSearchParams({ dag: dagId, before: to })}`);
  announce("Showing another period");
  return load();
}

/** Whether the user is busy with something that a new calendar would discard: the focus of its buttons is given back. */
function isBusy() {
  const focused = document.activeElement;
  return byId("dialog").open || (calendar?.anchor ?? null) !== null || (byId("export").contains(focused) && !focused.closest(".windows .button"));
}

function refresh() {
  if (document.hidden) return;
  check.load();
  audit.load();
  backfills.load();
  if (!isBusy()) load({ unasked: true });
}

check.load();
audit.load();
backfills.load();
setInterval(refresh, REFRESH_MS);
await load();
