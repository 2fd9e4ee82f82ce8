import { AIRFLOW } from "./api.js";
import { byId, h } from "./dom.js";
import { coming, duration, instant, number, span } from "./format.js";

const OLD_MS = 11_000; // longer than the server keeps an answer before it makes another
const SOON_MS = 1_500;
const WATCH = "data_export_watch";
let shown = null;

/** Each state's label and its meaning. */
export const STATES = {
  broken: ["Broken file", "its customer file has errors: no run is scheduled until they are fixed"],
  failed: ["Failed", "the newest run failed, or the run of every late window failed"],
  late: ["Late", "a window was not delivered in time; an alert reports it"],
  retrying: ["Retrying", "a task failed for a reason that may pass, and is tried again"],
  running: ["Running", "a run is queued or running"],
  new: ["New", "nothing has been delivered yet"],
  incomplete: ["Ended, incomplete", "end_date has passed, and windows before it were never delivered"],
  paused: ["Paused", "the DAG is paused in Airflow"],
  off: ["Off", "the customer file says enabled: false"],
  ended: ["Ended", "end_date has passed, and every window before it was delivered"],
  unwatched: ["Not watched", "delivered, but late windows are not known: the watch has not run"],
  delivered: ["On time", "nothing is late; older gaps are in its calendar"],
  hidden: ["Not shown", "your Airflow user may see the DAG, but not its runs"],
};

export const CONNECTORS = { gs: "Cloud Storage", s3: "S3", abfs: "Azure Blob Storage", sftp: "SFTP", email: "Email", file: "Local folder" };

export function badge(state) {
  const [label, meaning] = STATES[state] ?? [state, ""];
  return h("span", { class: `badge ${state}`, title: meaning }, label);
}

/** `2 windows late by 3 h`; null if none is late. */
export function lateness(item) {
  if (item.late_seconds === null) return null;
  return `${item.late_windows > 1 ? `${number(item.late_windows)} windows ` : ""}late by ${duration(item.late_seconds)}`;
}

/** `TargetUnavailable, try 4 of 9 in 12 min`, with all of the reason as a tooltip; null if nothing is tried again. */
export function retrying({ retry }) {
  if (!retry) return null;
  const when = retry.at ? coming(retry.at) : "under way";
  return h("span", { class: "warn retry", title: [retry.task_id, retry.message].filter(Boolean).join(": ") }, ` ${retry.error ? `${retry.error}, ` : ""}try ${retry.number} of ${retry.tries} ${when}`);
}

/** A reason, `error: message` or `task: error: message`, with a link to what is known of the error. */
export function reason(text) {
  const found = /^((?:[\w.-]+: )?)([A-Z]\w+)(: .*)$/s.exec(text ?? "");
  if (!found) return text ?? "";
  return [found[1], h("a", { href: errorPage(found[2]), title: "About this error" }, found[2]), found[3]];
}

/** Why late windows are not known, and the fix; empty if they are known. */
export function lateUnknown({ late_unknown: why }) {
  return why ? h("p", { class: "notice warning" }, why, " ", airflowLink(dagPath(WATCH), {}, "Open the watch")) : "";
}

/** How many windows of an ended export are missing; null if none. */
export function missing(item, timezone) {
  if (!item.missing) return null;
  const title = `never delivered, between ${span(item.missing_start, item.missing_end, timezone)}`;
  return h("span", { class: "warn", title }, ` ${number(item.missing)} missing`);
}

/** A link to one of Airflow's pages. The frame may not navigate its parent, but may click a link there. */
export function airflowLink(path, attributes, ...children) {
  const href = new URL(path, AIRFLOW).href;
  return h("a", { href, ...attributes, onclick: (event) => leave(event, href) }, ...children);
}

/** A link to another site, in a tab of its own, which the frame may open only through its parent. */
export function outsideLink(href, attributes, ...children) {
  const away = (event) => {
    event.preventDefault();
    const link = Object.assign(window.parent.document.createElement("a"), { href, target: "_blank", rel: "noopener noreferrer" });
    window.parent.document.body.append(link);
    link.click();
    link.remove();
  };
  return h("a", { href, ...attributes, onclick: away }, ...children);
}

export const runPath = (dagId, runId) => `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
export const dagPath = (dagId) => `dags/${encodeURIComponent(dagId)}`;
/** Errors that have no section of their own lead to the one for others (errors.js). */
export const errorPage = (name) => `errors.html#${name.toLowerCase()}`;
export const exportPage = (dagId) => `export.html?dag=${encodeURIComponent(dagId)}`;

export function open(path, event) {
  leave(event, new URL(path, AIRFLOW).href);
}

function leave(event, href) {
  if (window.parent === window) {
    if (event.currentTarget?.href !== href) window.location.assign(href);
    return;
  }
  event.preventDefault();
  const link = window.parent.document.createElement("a");
  link.href = href;
  if (event.ctrlKey || event.metaKey || event.shiftKey) link.target = "_blank";
  window.parent.document.body.append(link);
  link.click();
  link.remove();
}

/** Shows how old an answer is. If the server is still preparing the next one, asks for it soon. */
export function showTime(asOf, refresh) {
  byId("as-of").textContent = `as of ${instant(asOf)} UTC`;
  if (asOf !== shown && Date.now() - new Date(asOf) > OLD_MS) setTimeout(refresh, SOON_MS);
  shown = asOf;
}

/** Replaces `element`'s content with the error. */
export function showError(element, error) {
  element.replaceChildren(h("p", { class: "empty error", role: "alert" }, error.message));
  element.removeAttribute("aria-busy");
}
