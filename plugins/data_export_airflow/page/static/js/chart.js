import { h, svg } from "./dom.js";
import { instant, number, span } from "./format.js";

const WIDTH = 600;
const HEIGHT = 72;
const WIDEST = 24;

/** Bars of one number per window, oldest first; the highest fills the chart. */
export function bars(title, rows, value, format, timezone) {
  const values = rows.map((row) => (row.totals ? (value(row.totals) ?? null) : null));
  const known = values.filter((each) => each !== null);
  const most = Math.max(0, ...known);
  const total = known.reduce((sum, each) => sum + each, 0);
  const step = Math.min(WIDEST, WIDTH / Math.max(rows.length, 1));
  const gap = step > 3 ? 1 : 0;
  const shapes = values.map((each, index) => {
    if (each === null) return null;
    const height = most ? Math.max(each ? 1 : 0, (each / most) * HEIGHT) : 0;
    const label = `${span(rows[index].start, rows[index].end, timezone)}: ${format(each)}`;
    return svg(
      "rect",
      { x: (index * step).toFixed(2), y: (HEIGHT - height).toFixed(2), width: (step - gap).toFixed(2), height: height.toFixed(2) },
      svg("title", {}, label),
    );
  });
  const caption = (text) => h("figcaption", {}, title, h("span", { class: "soft" }, ` ${text}`));
  if (!known.length) return h("figure", { class: "chart" }, caption("nothing delivered in this period"));
  const mean = total / known.length;
  const summary = `${title}: ${format(total)} in total, ${format(Math.round(mean))} per window on average, at most ${format(most)}, over ${number(known.length)} deliveries`;
  return h(
    "figure",
    { class: "chart" },
    caption(`${format(total)} in total · ø ${format(Math.round(mean))} · max ${format(most)}`),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": summary }, shapes),
    rows.length > 1 ? h("p", { class: "ends", "aria-hidden": "true", style: `max-width:max(150px, ${((step * rows.length) / WIDTH) * 100}%)` }, h("span", {}, instant(rows[0].start, timezone).slice(0, 10)), h("span", {}, instant(rows.at(-1).start, timezone).slice(0, 10))) : "",
  );
}
