import { h } from "./dom.js";
import { open, runPath } from "./shell.js";
import { hideTooltip, sentence, showTooltip } from "./tooltip.js";

const HEADS = {
  hour: ["Day", Array.from({ length: 24 }, (_, hour) => [hour, String(hour).padStart(2, "0")])],
  day: ["Month", Array.from({ length: 31 }, (_, day) => [day + 1, String(day + 1)])],
  week: ["Year", Array.from({ length: 53 }, (_, week) => [week + 1, String(week + 1)])],
  month: ["Year", "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ").map((name, at) => [at + 1, name])],
};
/** Marks on a window beyond its state: a class and its label. */
export const MARKS = { "lacks-images": "Images missing at the source", refused: "Recipients refused" };
const GAPS = new Set(["missing", "past"]);

/** Firefox clicks a button when Space is released, even if the key press was handled. */
const noClick = (event) => event.key === " " && event.preventDefault();
const marks = ({ totals }) => [(totals?.images_missing || totals?.images_failed) && "lacks-images", totals?.refused_recipients && "refused"].filter(Boolean);

/**
 * A table of windows. A click on a gap or Space on any window selects it; Shift with a click or an arrow selects a
 * range. `onselect` gets the windows from the first to the last selected.
 */
export class Calendar {
  constructor(data, selectable, onselect) {
    Object.assign(this, { data, selectable, onselect, anchor: null, head: null });
    this.windows = data.windows;
    this.cells = this.windows.map((row, index) => this.cell(row, index));
    this.element = this.table();
    this.focusable(this.cells.length - 1);
  }

  table() {
    const [corner, columns] = HEADS[this.data.kind];
    const places = new Map();
    this.windows.forEach((row, index) => {
      const key = `${row.row} ${row.column}`;
      places.set(key, [...(places.get(key) ?? []), this.cells[index]]);
    });
    const line = (label) => [
      h("th", { scope: "row" }, label),
      columns.map(([column]) => {
        const found = places.get(`${label} ${column}`);
        return h("td", {}, found ?? h("span", { class: "never", title: this.exists(label, column) ? "never due" : null }));
      }),
    ];
    return h(
      "table",
      { class: `calendar ${this.data.kind}`, onkeydown: (event) => this.key(event), onkeyup: noClick, onmouseleave: hideTooltip },
      h("caption", { class: "visually-hidden" }, `Windows from newest to oldest, in ${this.data.zone}. Arrow keys move, Enter opens the run, Space selects.`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, corner), columns.map(([, name]) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, this.data.rows.map((label) => h("tr", {}, line(label)))),
    );
  }

  /** Whether the day exists, so that 30 February is not shown as "never due". */
  exists(label, column) {
    if (this.data.kind !== "day") return true;
    const [year, month] = label.split("-").map(Number);
    return column <= new Date(Date.UTC(year, month, 0)).getUTCDate();
  }

  cell(row, index) {
    const timezone = this.data.timezone;
    const gap = GAPS.has(row.state);
    const hint = row.run_id ? "Click: open the run" : gap && this.selectable ? "Click: select for a backfill" : null;
    const show = (event) => showTooltip(event.currentTarget, row, timezone, hint);
    return h("button", {
      type: "button",
      class: ["cell", row.state, ...marks(row)].join(" "),
      tabindex: "-1",
      "data-index": index,
      "data-start": row.start,
      "aria-label": sentence(row, timezone),
      "aria-pressed": "false",
      onmouseenter: show,
      onmouseleave: hideTooltip,
      onfocus: show,
      onblur: hideTooltip,
      onclick: (event) => this.click(event, index),
    });
  }

  click(event, index) {
    const row = this.windows[index];
    this.focusable(index);
    if (event.shiftKey && this.anchor !== null) this.select(this.anchor, index);
    else if (row.run_id) open(runPath(this.data.export.dag_id, row.run_id), event);
    else this.toggle(index);
  }

  key(event) {
    const index = Number(event.target.dataset?.index);
    if (Number.isNaN(index)) return;
    if (event.key === " ") this.toggle(index);
    else if (event.key === "Escape") {
      hideTooltip();
      this.clear();
    } else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") this.move(event, index);
    else return;
    event.preventDefault();
  }

  move(event, index) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -this.cells.length, End: this.cells.length };
    let to = index + (steps[event.key] ?? 0);
    if (event.key === "ArrowUp" || event.key === "ArrowDown") to = this.vertical(index, event.key === "ArrowUp" ? 1 : -1);
    to = Math.min(Math.max(to, 0), this.cells.length - 1);
    if (event.shiftKey) this.select(this.anchor ?? index, to);
    this.focusable(to);
    this.cells[to].focus();
  }

  /** The nearest window of the same column in a later or earlier row. Rows run from new to old, so up is later. */
  vertical(index, direction) {
    const from = this.windows[index];
    for (let at = index + direction; at >= 0 && at < this.windows.length; at += direction) {
      const row = this.windows[at];
      if (row.row !== from.row && row.column === from.column) return at;
    }
    return index;
  }

  focusable(index) {
    this.cells.forEach((cell) => cell.tabIndex === 0 && cell.setAttribute("tabindex", "-1"));
    this.cells[index]?.setAttribute("tabindex", "0");
  }

  toggle(index) {
    if (this.anchor === index && this.head === index) this.clear();
    else this.select(index, index);
  }

  clear() {
    this.select(null, null);
  }

  select(anchor, head) {
    if (!this.selectable) return;
    const [first, last] = anchor === null ? [1, 0] : [Math.min(anchor, head), Math.max(anchor, head)];
    const isChosen = ({ state }, index) => index >= first && index <= last && !["open", "rest"].includes(state);
    const chosen = this.windows.filter(isChosen);
    Object.assign(this, chosen.length ? { anchor, head } : { anchor: null, head: null }); // else nobody sees what is selected
    this.cells.forEach((cell, index) => cell.setAttribute("aria-pressed", String(isChosen(this.windows[index], index))));
    this.onselect(chosen);
  }

  /** Selects from the oldest to the newest window that a backfill of gaps would fill. */
  selectGaps() {
    const gaps = this.windows.map((row, index) => (["missing", "failed"].includes(row.state) ? index : -1)).filter((at) => at >= 0);
    if (gaps.length) this.select(gaps[0], gaps.at(-1));
  }
}
