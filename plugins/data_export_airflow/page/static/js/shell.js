import { AIRFLOW } from "./api.js";
import { byId, h } from "./dom.js";
import { instant } from "./format.js";

/** What each state means, for people. */
export const STATES = {
  broken: ["Broken file", "its customer file has errors: no run is scheduled until it is mended"],
  failed: ["Failed", "the newest run failed"],
  late: ["Late", "a window that is due has not been delivered"],
  running: ["Running", "a run is queued or running"],
  new: ["New", "nothing was delivered yet"],
  paused: ["Paused", "the DAG is paused in Airflow"],
  off: ["Off", "the customer file says enabled: false"],
  ended: ["Ended", "its last window was delivered; history is a backfill"],
  delivered: ["On time", "every window that is due was delivered"],
  hidden: ["Not shown", "your Airflow user may see the DAG, but not its runs"],
};

export const CONNECTORS = { gs: "Cloud Storage", s3: "S3", sftp: "SFTP", email: "Email", file: "Local folder" };

export function badge(state) {
  const [label, meaning] = STATES[state] ?? [state, ""];
  return h("span", { class: `badge ${state}`, title: meaning }, label);
}

/** A link to a page of Airflow's. The frame may not navigate its parent, but may click a link there. */
export function airflowLink(path, attributes, ...children) {
  const href = new URL(path, AIRFLOW).href;
  return h("a", { href, ...attributes, onclick: (event) => leave(event, href) }, ...children);
}

export const runPath = (dagId, runId) => `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
export const dagPath = (dagId) => `dags/${encodeURIComponent(dagId)}`;
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

export function showTime(asOf) {
  byId("as-of").textContent = `as of ${instant(asOf)} UTC`;
}

/** Says what went wrong in place of `element`'s content. */
export function showError(element, error) {
  element.replaceChildren(h("p", { class: "empty error", role: "alert" }, error.message));
  element.removeAttribute("aria-busy");
}
