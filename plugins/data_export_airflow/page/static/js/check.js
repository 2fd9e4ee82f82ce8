import { airflow, get } from "./api.js";
import { announce, h } from "./dom.js";
import { instant, plural, relative } from "./format.js";
import { airflowLink, dagPath, runPath } from "./shell.js";

const POLL_MS = 1_000;

/** The last result of `data_export_check` for this export, and a button that runs it again. */
export class CheckCard {
  constructor(dagId) {
    this.path = `exports/${encodeURIComponent(dagId)}/check`;
    this.element = h("section", { class: "card check", "aria-labelledby": "check-title" });
    this.asked = false; // whether the button started the current run
    this.starting = false; // from a click until the run is there
    this.show(h("p", { class: "soft" }, "Loading …"));
  }

  async load() {
    clearTimeout(this.timer);
    try {
      const found = await get(this.path);
      if (this.asked && !found.running) {
        this.asked = false;
        announce(found.result?.ok ? "The check found no faults." : "The check found faults.");
      }
      this.present(found);
      if (found.running) this.timer = setTimeout(() => this.load(), POLL_MS);
    } catch (error) {
      const hidden = error.status === 403;
      this.show(h("p", hidden ? { class: "soft" } : { class: "error", role: "alert" }, hidden ? "Your Airflow user may not read the results of checks." : error.message));
    }
  }

  present({ result, running, may_check: may, dag_id: dag, export: name }) {
    const focused = this.element.contains(document.activeElement) && document.activeElement.tagName === "BUTTON";
    const label = running ? "Checking …" : result ? "Check again" : "Check now";
    const button = may ? h("button", { type: "button", class: "button", "aria-disabled": String(running), onclick: () => running || this.starting || this.start(dag, name) }, label) : "";
    const verdict = result ? badge(result, running) : "";
    const log = result && `${runPath(dag, result.run_id)}/tasks/check/mapped/${result.map_index}`;
    const when = result ? h("span", { class: "soft" }, h("time", { datetime: result.at, title: `${instant(result.at)} UTC` }, relative(result.at)), " · ", airflowLink(log, {}, "log")) : "";
    const never = h("p", { class: "soft" }, "Never checked. A check tries source, staging, images and target from a worker and leaves nothing behind. ", airflowLink(dagPath(dag), {}, "Open the check's DAG"));
    this.show(result ? steps(result.steps) : never, verdict, when, button);
    if (focused) this.element.querySelector("button")?.focus();
  }

  show(content, ...head) {
    this.element.replaceChildren(h("div", { class: "card-head" }, h("h2", { id: "check-title" }, "Check"), head), content);
  }

  async start(dag, name) {
    this.starting = true;
    try {
      await airflow(`dags/${dag}/dagRuns`, { logical_date: null, conf: { export: name } });
      this.asked = true;
      announce("The check has started.");
      await this.load();
    } catch (error) {
      this.element.querySelector(":scope > .error")?.remove();
      this.element.append(h("p", { class: "error", role: "alert" }, error.message));
    } finally {
      this.starting = false;
    }
  }
}

/** `14 steps, 1 failed`; a check that is under way counts what it has found so far. */
function badge({ ok, over = true, steps: found }, running) {
  const faults = found.filter((step) => !step.ok).length;
  const counted = `${plural(found.length, "step")}, ${faults ? `${faults} failed` : over ? "all ok" : "ok so far"}`;
  const words = over || running ? counted : `${counted}, not finished`;
  return h("span", { class: `badge ${faults ? "failed" : over && ok ? "delivered" : "running"}` }, words);
}

function steps(found) {
  const rows = found.map(({ step, ok, detail }) =>
    h("tr", {}, h("th", { scope: "row", class: "step" }, step), h("td", {}, ok ? h("span", { class: "good" }, "ok") : h("span", { class: "bad" }, "failed")), h("td", { class: ok ? null : "reason" }, detail)),
  );
  const heads = ["Step", "Result", "Finding or fix"].map((name) => h("th", { scope: "col" }, name));
  return h("div", { class: "table-frame" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)));
}
