import { airflow, get } from "./api.js";
import { announce, h } from "./dom.js";
import { instant, number, plural, relative, span } from "./format.js";
import { airflowLink, dagPath, runPath } from "./shell.js";

/** What the last audit of this export found at its target, and a button that audits it again. */
export class AuditCard {
  constructor(dagId) {
    this.path = `exports/${encodeURIComponent(dagId)}/audit`;
    this.element = h("section", { class: "card check", "aria-labelledby": "audit-title" });
    this.started = null; // id of the run that the button started, until its result is there
    this.show(h("p", { class: "soft" }, "Loading …"));
  }

  async load() {
    try {
      this.present(await get(this.path));
    } catch (error) {
      const hidden = error.status === 403;
      this.show(h("p", hidden ? { class: "soft" } : { class: "error", role: "alert" }, hidden ? "Your Airflow user may not read the results of audits." : error.message));
    }
  }

  present({ result, may, dag_id: dag, export: name }) {
    if (result?.run_id === this.started) this.started = null;
    const focused = this.element.contains(document.activeElement) && document.activeElement.tagName === "BUTTON";
    const start = may ? this.button(dag, name, result) : "";
    if (!result) {
      this.show(h("p", { class: "soft" }, "Never audited. An audit looks, weekly, whether what was delivered is still at the target. ", airflowLink(dagPath(dag), {}, "Open the audit's DAG")), start);
    } else {
      this.found(dag, result, start);
    }
    if (focused) this.element.querySelector("button")?.focus();
  }

  /** Not clickable from when it was clicked until the audit's result is there: an audit reads for up to half an hour. */
  button(dag, name, result) {
    const busy = this.started !== null;
    const button = h("button", { type: "button", class: "button", "aria-disabled": String(busy), onclick: () => this.started === null && this.start(dag, name, result) }, busy ? "Auditing …" : result ? "Audit again" : "Audit now");
    return busy && this.started ? [airflowLink(runPath(dag, this.started), {}, "Open the run"), button] : button;
  }

  found(dag, result, start) {
    const log = `${runPath(dag, result.run_id)}/tasks/audit/mapped/${result.map_index}`;
    const when = h("span", { class: "soft" }, h("time", { datetime: result.at, title: `${instant(result.at)} UTC` }, relative(result.at)), " · ", airflowLink(log, {}, "log"));
    this.show(result.error ? h("p", { class: "reason" }, result.error) : body(result), badge(result), when, start);
  }

  show(content, ...head) {
    this.element.replaceChildren(h("div", { class: "card-head" }, h("h2", { id: "audit-title" }, "Audit"), head), content);
  }

  async start(dag, name, result) {
    this.started = "";
    try {
      this.started = (await airflow(`dags/${dag}/dagRuns`, { logical_date: null, conf: { export: name } })).dag_run_id;
      announce("The audit has started.");
      this.present({ result, may: true, dag_id: dag, export: name });
    } catch (error) {
      this.started = null;
      this.element.querySelector(":scope > .error")?.remove();
      this.element.append(h("p", { class: "error", role: "alert" }, error.message));
    }
  }
}

function badge({ error, damaged, left, cut, unknown }) {
  const good = left || cut || unknown ? "what was looked at is there" : "all there";
  const words = error ? "could not look" : damaged ? `${number(damaged)} missing or damaged` : good;
  return h("span", { class: `badge ${error || damaged ? "failed" : "delivered"}` }, words);
}

function body(result) {
  const looked = `${plural(result.objects, "object")} looked at, ${number(result.read)} read, ${plural(result.images, "image")}`;
  const notes = [
    looked,
    result.left ? `${number(result.left)} not looked at: the time was over` : "",
    result.unknown ? `${plural(result.unknown, "image")} not compared: ${result.unknown_reason}` : "",
    result.cut ? "older deliveries left out, since there are too many" : "",
    result.repairs ? `${plural(result.repairs, "run")} cleared to deliver again` : result.note,
    drift(result.drift),
  ].filter(Boolean);
  return h("div", {}, h("p", { class: "soft" }, notes.join("; ")), findings(result));
}

function drift(found) {
  if (!found) return "";
  return `at the source since: ${number(found.added)} added, ${number(found.changed)} changed, ${number(found.gone)} gone, in ${plural(found.windows.length, "window")} of ${plural(found.files, "file")}`;
}

function findings({ findings: found, damaged }) {
  if (!found.length) return "";
  const rows = found.map(({ start, end, kind, found: what, uri, detail, fix }) =>
    h("tr", {}, h("td", {}, span(start, end)), h("td", {}, kind), h("td", {}, h("span", { class: "bad" }, what)), h("td", { class: "reason" }, h("code", {}, uri), detail ? ` ${detail}` : "", fix ? h("small", {}, fix) : "")),
  );
  const heads = ["Window", "What", "Found", "Address"].map((name) => h("th", { scope: "col" }, name));
  return h("div", { class: "table-frame" },
    h("table", { class: "plain" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)),
    damaged > found.length ? h("p", { class: "soft" }, `and ${number(damaged - found.length)} more`) : "");
}
