import { byId, h } from "./dom.js";
import { bytes, duration, instant, number, span } from "./format.js";

/** Each window state's label. */
export const WINDOW_STATES = {
  delivered: "Delivered",
  empty: "Delivered, empty",
  unproven: "No receipt",
  failed: "Failed",
  retrying: "Retrying",
  running: "Running",
  queued: "Queued",
  missing: "Missing",
  rest: "Rest missing",
  past: "Never run",
  open: "Not due yet",
};

const MEANINGS = {
  missing: "The window is over, and no run was created for it.",
  rest: "The run of this window used an earlier interval or end_date and ended before this part. No backfill can deliver the rest: trigger a run with these times as from and to.",
  unproven: "The run is successful, but no receipt says that it delivered: somebody marked it as a success, or the receipt was removed from Airflow's database. Select the window to run it again.",
  past: "The window is older than the export's first run.",
  empty: "No work orders were created or updated in the window.",
};

/** Facts about a window as [name, value], without unknown ones. */
export function facts(row, timezone) {
  const totals = row.totals;
  const images = totals && (totals.images || totals.images_missing);
  return [
    ["Window", span(row.start, row.end, timezone)],
    row.by_hand && ["In a run by hand of", span(...row.by_hand, timezone)],
    totals && ["Work orders", number(totals.work_orders)],
    totals?.refused_recipients && ["Recipients refused", number(totals.refused_recipients)],
    totals?.quarantined && ["Quarantined", number(totals.quarantined)],
    totals?.files_kept && ["Different files kept", number(totals.files_kept)],
    totals && ["Data", bytes(totals.bytes)],
    images && ["Images", `${number(totals.images)}, ${number(totals.images_copied)} new (${bytes(totals.image_bytes)})`],
    totals?.images_kept && ["Different images kept", number(totals.images_kept)],
    totals?.images_failed && ["Images failed", number(totals.images_failed)],
    totals?.images_missing && ["Missing at source", number(totals.images_missing)],
    totals?.sites > 1 && ["Sites", number(totals.sites)],
    row.delivered_at && ["Delivered at", `${instant(row.delivered_at, timezone)}`],
    row.seconds !== null && ["Run took", duration(row.seconds)],
  ].filter(Boolean);
}

/** One line for screen readers. */
export function sentence(row, timezone) {
  const rest = facts(row, timezone).slice(1).map(([name, value]) => `${name.toLowerCase()} ${value}`);
  return [`${span(row.start, row.end, timezone)}: ${WINDOW_STATES[row.state]}`, ...rest, row.reason].filter(Boolean).join(", ");
}

export function showTooltip(target, row, timezone, hint) {
  const tooltip = byId("tooltip");
  const { totals } = row;
  const list = facts(row, timezone).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  tooltip.replaceChildren(
    h("p", { class: `tooltip-title ${row.state}` }, WINDOW_STATES[row.state]),
    h("dl", {}, list),
    totals?.refused_recipients ? h("p", { class: "warn" }, "The link did not reach everybody: see the warning on this page.") : "",
    row.reason ? h("p", { class: "reason" }, row.reason) : MEANINGS[row.state] ? h("p", { class: "soft" }, MEANINGS[row.state]) : "",
    hint ? h("p", { class: "soft" }, hint) : "",
  );
  tooltip.hidden = false;
  const [at, own] = [target.getBoundingClientRect(), tooltip.getBoundingClientRect()];
  const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), window.innerWidth - own.width - 8);
  const above = at.top - own.height - 8;
  tooltip.style.left = `${left + window.scrollX}px`;
  tooltip.style.top = `${(above > 8 ? above : at.bottom + 8) + window.scrollY}px`;
}

export function hideTooltip() {
  byId("tooltip").hidden = true;
}
