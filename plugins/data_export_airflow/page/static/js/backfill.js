import { airflow, get } from "./api.js";
import { announce, byId, h } from "./dom.js";
import { bytes, duration, number, plural, windowsInWords } from "./format.js";
import { airflowLink, dagPath } from "./shell.js";

const POLL_MS = 2_000;
const BEHAVIOURS = [
  ["none", "windows that never ran"],
  ["failed", "windows that failed or never ran"],
  ["completed", "all windows, including delivered ones"],
];

/** Shows what Airflow would run and, once confirmed, creates an Airflow backfill. */
export class Backfill {
  constructor(data, windows, done) {
    Object.assign(this, { data, windows, done, latest: 0 });
    this.dialog = byId("dialog");
    this.ask = {
      dag_id: data.export.dag_id,
      from_date: windows[0].start,
      to_date: windows.at(-1).start,
      reprocess_behavior: behaviourFor(windows),
      max_active_runs: data.max_active_runs,
      run_backwards: false,
    };
  }

  show() {
    this.outcome = h("div", { class: "outcome", "aria-live": "polite" });
    this.confirm = h("button", { type: "button", class: "button primary", onclick: () => this.create() }, "Start backfill");
    this.dialog.replaceChildren(
      h("h2", { id: "dialog-title" }, `Backfill ${this.data.export.name}`),
      h("p", {}, windowsInWords(this.windows.length, this.windows[0].start, this.windows.at(-1).start, this.data.timezone)),
      this.options(),
      this.outcome,
      h("div", { class: "actions" }, h("button", { type: "button", class: "button", onclick: () => this.dialog.close() }, "Cancel"), this.confirm),
    );
    this.dialog.showModal();
    return this.preview();
  }

  options() {
    const behaviour = h(
      "select",
      { onchange: (event) => this.change({ reprocess_behavior: event.target.value }) },
      BEHAVIOURS.map(([value, label]) => h("option", { value, selected: value === this.ask.reprocess_behavior }, label)),
    );
    const order = h(
      "select",
      { onchange: (event) => this.change({ run_backwards: event.target.value === "newest" }) },
      h("option", { value: "oldest" }, "oldest first"),
      h("option", { value: "newest" }, "newest first"),
    );
    const most = this.data.max_active_runs;
    const runs = h("input", {
      type: "number", min: "1", max: String(most), value: String(most), title: `at most ${most} (limits.max_active_runs)`,
      onchange: ({ target }) => {
        target.value = Math.min(Math.max(1, Math.round(Number(target.value)) || 1), most);
        this.change({ max_active_runs: Number(target.value) });
      },
    });
    const field = (label, control) => h("label", {}, h("span", {}, label), control);
    return h("div", { class: "fields" }, field("Run", behaviour), field("Order", order), field(`Runs at once (1 to ${most})`, runs));
  }

  change(values) {
    Object.assign(this.ask, values);
    return this.preview();
  }

  async preview() {
    const turn = ++this.latest;
    this.confirm.disabled = true;
    this.outcome.replaceChildren(h("p", { class: "soft" }, "Asking Airflow what it would run …"));
    try {
      const { total_entries: count } = await airflow("backfills/dry_run", this.ask);
      if (turn !== this.latest) return; // a newer request was sent meanwhile
      this.outcome.replaceChildren(...this.forecast(count));
      this.confirm.disabled = count === 0;
    } catch (error) {
      if (turn === this.latest) this.fail(error);
    }
  }

  forecast(count) {
    const lines = [h("p", {}, count ? h("strong", {}, `Airflow will run ${plural(count, "window")}.`) : "Nothing to run: every window in the range has run. Choose what to run again.")];
    const sample = this.data.sample;
    if (count && sample) {
      const seconds = (sample.seconds * count) / Math.min(this.ask.max_active_runs, count);
      const sizes = [`${number(Math.round(sample.work_orders * count))} work orders`, bytes(sample.bytes * count)];
      if (sample.images) sizes.push(`${number(Math.round(sample.images * count))} images`);
      lines.push(h("p", { class: "soft" }, `About ${sizes.join(", ")}, ${duration(seconds)}, based on the last ${plural(sample.windows, "delivery", "deliveries")}.`));
    }
    if (this.data.export.paused) lines.push(h("p", { class: "warn" }, "The DAG is paused: the runs wait until it is unpaused."));
    return lines;
  }

  async create() {
    this.latest += 1; // no pending answer may enable the button again
    this.confirm.disabled = true;
    for (const control of this.dialog.querySelectorAll(".fields select, .fields input")) control.disabled = true;
    try {
      await airflow("backfills", this.ask);
      this.dialog.close();
      announce("The backfill has started.");
      this.done();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    for (const control of this.dialog.querySelectorAll(".fields select, .fields input")) control.disabled = false;
    const hint = error.status === 409 ? " Only one backfill per export runs at a time; Airflow notices its end up to half a minute late." : "";
    this.outcome.replaceChildren(h("p", { class: "error", role: "alert" }, error.message + hint));
  }
}

/** The mildest behaviour that runs something for the chosen windows. */
function behaviourFor(windows) {
  const states = new Set(windows.map((row) => row.state));
  if (states.has("failed")) return "failed";
  return states.has("missing") || states.has("past") ? "none" : "completed";
}

/** Shows the export's backfills while they have runs left, and calls `over` as runs end. */
export class BackfillNotice {
  constructor(dagId, over) {
    Object.assign(this, { dagId, over, left: null, timezone: "UTC" });
    this.element = h("div", { class: "notices", hidden: true });
  }

  async load() {
    clearTimeout(this.timer);
    const { backfills } = await get(`exports/${encodeURIComponent(this.dagId)}/backfills`).catch(() => ({ backfills: [] }));
    const left = backfills.reduce((sum, each) => sum + each.left, 0);
    const moved = this.left !== null && left < this.left;
    this.left = backfills.length ? left : null;
    if (!this.element.contains(document.activeElement)) this.element.replaceChildren(...backfills.map((each) => this.line(each)));
    this.element.hidden = !backfills.length;
    if (moved) this.over(!backfills.length);
    if (backfills.length && !document.hidden) this.timer = setTimeout(() => this.load(), POLL_MS);
  }

  line({ from, to, windows, left, is_paused: paused }) {
    const which = windows ? ` of ${windowsInWords(windows, from, to, this.timezone)}` : "";
    const state = paused ? "is paused" : "is under way";
    return h("p", { class: "notice" }, `A backfill${which} ${state}: ${plural(left, "run")} left. `, airflowLink(`${dagPath(this.dagId)}/backfills`, {}, "Pause or cancel it in Airflow"));
  }
}
