import { get } from "./api.js";
import { byId, h } from "./dom.js";
import { bytes, coming, duration, instant, number, plural, span } from "./format.js";
import { CONNECTORS, airflowLink, errorPage, exportPage, lateUnknown, runPath, showError, showTime } from "./shell.js";

const REFRESH_MS = 60_000;

/** Whether the focus is on what an answer replaces, and would be lost. */
const isBusy = () => byId("fleet").contains(document.activeElement);

async function load({ unasked = false } = {}) {
  const main = byId("fleet");
  try {
    const data = await get("fleet").catch(forbidden);
    if (unasked && isBusy()) return; // the user has gone on meanwhile
    if (data.as_of) showTime(data.as_of, refresh);
    main.replaceChildren(late(data), again(data), byId("failures-card") ?? failures(null), byId("volume-card") ?? volume(null));
    main.removeAttribute("aria-busy");
    const fill = async (path, card) => {
      const found = await get(path).catch(forbidden);
      if (!unasked || !isBusy()) byId(`${path}-card`).replaceWith(card(found));
    };
    await Promise.all([fill("failures", failures), fill("volume", volume)]);
  } catch (error) {
    showError(main, error);
  }
  document.body.dataset.ready = "true";
}

/** Replaces a card's data if the user may not read it; each card needs different rights. */
function forbidden(error) {
  if (error.status !== 403) throw error;
  return { forbidden: error.message };
}

function table(heads, rows) {
  const head = heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  return h("div", { class: "table-frame" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

function card(title, id, note, ...content) {
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title, h("span", { class: "soft" }, ` ${note}`)), ...content);
}

function late(data) {
  const { late: found, late_count: count, exports, forbidden: refusal } = data;
  if (refusal) return card("Late now", "late", "", h("p", { class: "soft" }, refusal));
  if (data.late_unknown) return card("Late now", "late", "", lateUnknown(data));
  const note = `${number(count)} of ${plural(exports, "export")}`;
  if (!count) return card("Late now", "late", note, h("p", { class: "fine" }, "Nothing is late."));
  const rows = found.map((item) =>
    h("tr", {}, h("th", { scope: "row" }, h("a", { href: exportPage(item.dag_id) }, item.name)), h("td", {}, CONNECTORS[item.connector] ?? item.connector), h("td", {}, item.interval), h("td", { class: "instant" }, span(item.delivered_start, item.delivered_end)), h("td", { class: "number bad" }, duration(item.late_seconds)), h("td", {}, item.last_run_id ? airflowLink(runPath(item.dag_id, item.last_run_id), {}, item.last_run_state) : "–")),
  );
  const more = count > found.length ? h("p", { class: "soft" }, `These are the ${number(found.length)} most overdue of ${number(count)}; `, h("a", { href: "./?sort=lag&order=desc" }, "show all, by lag")) : "";
  return card("Late now", "late", note, table([["Export"], ["Connector"], ["Interval"], ["Last delivered window (UTC)"], ["Late by", "number"], ["Last run"]], rows), more);
}

/** What is tried again: empty if nothing is. */
function again({ retrying: found, retrying_count: count }) {
  if (!count) return "";
  const rows = found.map(({ dag_id: dag, name, retry }) =>
    h("tr", {}, h("th", { scope: "row" }, h("a", { href: exportPage(dag) }, name)), h("td", {}, retry.error ? h("a", { href: errorPage(retry.error) }, retry.error) : "–"), h("td", { class: "number" }, `${retry.number} of ${retry.tries}`), h("td", { class: "instant" }, retry.at ? coming(retry.at) : "under way"), h("td", {}, airflowLink(runPath(dag, retry.run_id), {}, retry.task_id), h("p", { class: "reason" }, retry.message))),
  );
  const more = count > found.length ? h("p", { class: "soft" }, h("a", { href: "./?state=retrying" }, `show all ${number(count)}`)) : "";
  return card("Retrying", "retrying", plural(count, "export"), table([["Export"], ["Reason"], ["Try", "number"], ["Next"], ["Task"]], rows), more);
}

function failures(data) {
  const whole = (note, content) => h("div", { id: "failures-card" }, card("Failures of the last day", "failures", note, content));
  if (!data || data.forbidden) return whole("by reason", h("p", { class: "soft" }, data?.forbidden ?? "Counting …"));
  const found = data.failures;
  const runs = found.reduce((sum, group) => sum + group.runs, 0);
  if (!runs) return whole("none", h("p", { class: "fine" }, "No run failed in the last 24 hours."));
  const groups = found.map((group) =>
    h("li", {}, h("details", {},
      h("summary", {}, h("strong", {}, group.error), h("span", { class: "soft" }, ` ${plural(group.runs, "run")} of ${plural(group.exports, "export")}`), group.meaning ? h("span", { class: "meaning" }, group.meaning) : ""),
      h("p", { class: "what-to-do" }, h("a", { href: `errors.html#${group.anchor}` }, "What to do about it")),
      h("ul", { class: "bare" }, group.examples.map((each) => h("li", {}, h("a", { href: exportPage(each.dag_id) }, each.name), " ", airflowLink(runPath(each.dag_id, each.run_id), {}, `run of ${instant(each.window_start)}`), h("p", { class: "reason" }, each.message)))))),
  );
  return whole(`${plural(runs, "run")}, by reason`, h("ul", { class: "bare groups" }, groups));
}

function volume(found) {
  const note = "the last 14 days";
  if (!found || found.forbidden) return h("div", { id: "volume-card" }, card("Delivered per day", "volume", note, h("p", { class: "soft" }, found?.forbidden ?? "Counting …")));
  const { days } = found;
  const most = Math.max(1, ...days.map((day) => day.bytes + day.image_bytes));
  const warning = (count) => (count ? h("span", { class: "warn" }, number(count)) : "0");
  const rows = [...days].reverse().map((day) => {
    const share = ((day.bytes + day.image_bytes) / most) * 100;
    return h("tr", {}, h("th", { scope: "row" }, day.day), h("td", { class: "number" }, number(day.deliveries)), h("td", { class: "number" }, number(day.work_orders)), h("td", { class: "number" }, bytes(day.bytes)), h("td", { class: "number" }, number(day.images)), h("td", { class: "number" }, bytes(day.image_bytes)), h("td", { class: "number" }, warning(day.images_missing)), h("td", { class: "number" }, warning(day.refused_recipients)), h("td", { class: "meter", "aria-hidden": "true" }, h("span", { style: `width:${share.toFixed(1)}%` })));
  });
  const heads = [["Day (UTC)"], ["Deliveries", "number"], ["Work orders", "number"], ["Data", "number"], ["Images", "number"], ["Image bytes copied", "number"], ["Images missing", "number"], ["Recipients refused", "number"], [h("span", { class: "visually-hidden" }, "Bytes compared with the largest day"), "meter"]];
  return h("div", { id: "volume-card" }, card("Delivered per day", "volume", note, table(heads, rows)));
}

function refresh() {
  if (!document.hidden && !isBusy()) load({ unasked: true });
}

setInterval(refresh, REFRESH_MS);
await load();
