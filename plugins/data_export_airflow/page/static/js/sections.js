import { h } from "./dom.js";
import { bytes, coming, instant, number, plural, span } from "./format.js";
import { airflowLink, runPath } from "./shell.js";
import { WINDOW_STATES } from "./tooltip.js";

const SHOWN_REFUSED = 3;

const OUTCOMES = { created: "written", unchanged: "already there", replaced: "replaced", revision: "written as a new revision", kept: "kept", staged: "mailed as a link" };

/** Where the files of the newest delivered window are. */
export function files({ files: found, timezone }) {
  if (!found) return "";
  const rows = found.sites.map((site) =>
    h("tr", {}, h("td", {}, h("code", {}, site.uri)), h("td", { class: "number" }, number(site.work_orders)), h("td", { class: "number" }, bytes(site.bytes)), h("td", { class: "number" }, site.revision ?? 1), h("td", {}, outcome(site)), h("td", { class: "digest" }, h("code", { title: site.sha256 }, `${String(site.sha256).slice(0, 12)}…`))),
  );
  const heads = [["File"], ["Work orders", "number"], ["Size", "number"], ["Revision", "number"], ["Outcome"], ["SHA-256"]];
  return h("section", { class: "card files", "aria-labelledby": "files-title" },
    h("h2", { id: "files-title" }, "Where the files are"),
    h("p", { class: "soft" }, "Target ", h("code", {}, found.target), `. The newest window's files, of ${instant(found.window_start, timezone).slice(0, 10)}:`),
    h("div", { class: "table-frame" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, rows))),
    found.more_sites ? h("p", { class: "soft" }, `and ${plural(found.more_sites, "more site")}`) : "");
}

/** A file's outcome. The row's figures describe the file at the target; a kept file also says what was not delivered. */
function outcome({ outcome: name, offered }) {
  const words = OUTCOMES[name] ?? name;
  if (!offered) return words;
  return [h("span", { class: "warn" }, words), h("small", {}, `not replaced by one with ${plural(offered.work_orders, "work order")}, ${bytes(offered.bytes)}`)];
}

/** The late windows, oldest first, as the alert names them. */
export function lateWindows({ export: { late }, timezone }) {
  if (!late?.length) return "";
  const line = ({ start, end, by, count }) =>
    `${count > 1 ? `and ${number(count)} more from ` : ""}${span(start, end, timezone)}, expected by ${instant(by, timezone)}`;
  return h("section", { class: "notice warning", "aria-labelledby": "late-title" },
    h("strong", { id: "late-title" }, "Late windows"),
    h("ul", {}, late.map((each) => h("li", {}, line(each)))));
}

/** Why a run is not over: what its last try met, and when the next one is. */
export function retryNotice({ export: { dag_id: dag, retry }, timezone }) {
  if (!retry) return "";
  const when = retry.at ? `at ${instant(retry.at, timezone)} (${coming(retry.at)})` : "is under way";
  return h("section", { class: "notice warning", "aria-labelledby": "retry-title" },
    h("strong", { id: "retry-title" }, "Retrying"), ` ${retry.task_id}: try ${retry.number} of ${retry.tries} ${when}. `,
    retry.error ? h("span", { class: "reason" }, `${retry.error}: ${retry.message} `) : "",
    airflowLink(runPath(dag, retry.run_id), {}, "Open the run"));
}

/** Windows with refused recipients, newest first. */
export function refused({ refused: found, timezone }) {
  if (!found.length) return "";
  const lines = found.map(({ start, end, recipients }) => h("li", {}, `${span(start, end, timezone)}: ${recipients.join(", ")}`));
  const rest = lines.slice(SHOWN_REFUSED);
  return h("section", { class: "notice warning", "aria-labelledby": "refused-title" },
    h("strong", { id: "refused-title" }, "The mail server refused recipients"),
    " permanently; the others have their link. Correct ", h("code", {}, "emails"), " in the customer file.",
    h("ul", {}, lines.slice(0, SHOWN_REFUSED)),
    rest.length ? h("details", {}, h("summary", {}, plural(rest.length, "more window")), h("ul", {}, rest)) : "");
}

/** Images that receipts list as missing at the source, newest windows first. */
export function missingImages({ missing_images: found, timezone }) {
  if (!found.length) return "";
  const lines = found.map(({ start, count, names, lists }) =>
    h("li", {}, h("details", {},
      h("summary", {}, `${instant(start, timezone).replace(" 00:00", "")}: ${plural(count, "image")}`),
      h("ul", { class: "names" }, names.map((name) => h("li", {}, h("code", {}, name)))),
      count > names.length ? h("p", { class: "soft" }, `the first ${number(names.length)} of ${number(count)}`) : "",
      lists.map((list) => h("p", { class: "lists" }, "The full list: ", h("code", {}, list))))),
  );
  return h("section", { class: "card", "aria-labelledby": "missing-title" }, h("h2", { id: "missing-title" }, "Images missing at the source"), h("ul", { class: "bare" }, lines));
}

/** Ranges that were run by hand and are not windows of the schedule. */
export function ranges({ by_hand: found, timezone }, dagId) {
  if (!found.length) return "";
  const rows = found.map((row) =>
    h("tr", {}, h("td", {}, airflowLink(runPath(dagId, row.run_id), {}, span(row.start, row.end, timezone))), h("td", {}, WINDOW_STATES[row.state]), h("td", { class: "number" }, number(row.totals?.work_orders)), h("td", { class: "number" }, bytes(row.totals?.bytes)), h("td", { class: "reason" }, row.reason ?? "")),
  );
  return h("section", { class: "card", "aria-labelledby": "ranges-title" },
    h("h2", { id: "ranges-title" }, "Ranges run by hand"),
    h("table", { class: "plain" }, h("thead", {}, h("tr", {}, [["Range"], ["State"], ["Work orders", "number"], ["Size", "number"], ["Reason"]].map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, rows)));
}
