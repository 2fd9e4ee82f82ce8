import { get } from "./api.js";
import { announce, h } from "./dom.js";
import { bytes, coming, instant, number, plural, span } from "./format.js";
import { airflowLink, outsideLink, reason, runPath } from "./shell.js";
import { WINDOW_STATES } from "./tooltip.js";

const SHOWN_REFUSED = 3;
const SHOWN_FAILED = 3;

const OUTCOMES = { created: "written", unchanged: "already there", replaced: "replaced", revision: "written as a new revision", kept: "kept", staged: "mailed as a link" };

const read = new Map(); // by event, where its files are: a receipt never changes
let chosen = null; // the window whose files the user asked for last, which a refresh shows again
const bounds = (row) => row.by_hand ?? [row.start, row.end];

/** Where the files of a window are: of the newest or of the run that a link names, until another is chosen. */
export function files({ files: newest, windows, by_hand: ranges, timezone }, dagId, run) {
  if (!newest) return "";
  const delivered = [...new Map([...windows, ...ranges].filter((row) => row.event_id !== null).map((row) => [row.event_id, row])).values()];
  delivered.sort((one, other) => other.end.localeCompare(one.end));
  const again = chosen && (delivered.find((row) => row.event_id === chosen.event_id) ?? delivered.find((row) => String(bounds(row)) === String(bounds(chosen))));
  const { event_id: first } = again ?? delivered.find((row) => row.run_id === run) ?? newest;
  const body = h("div", { "aria-live": "polite" });
  read.set(newest.event_id, newest);
  const show = async (id) => {
    if (!read.has(id)) body.replaceChildren(h("p", { class: "soft" }, "Loading …"));
    const found = read.get(id) ?? (await get(`exports/${encodeURIComponent(dagId)}/files/${id}`).catch((error) => error));
    if (id !== Number(select.value)) return; // another was chosen meanwhile
    if (found instanceof Error) return body.replaceChildren(h("p", { class: "error", role: "alert" }, found.message));
    read.set(id, found);
    body.replaceChildren(table(found));
  };
  const option = (row) => h("option", { value: row.event_id, selected: row.event_id === first }, span(...bounds(row), timezone));
  const choose = () => {
    chosen = delivered.find((row) => row.event_id === Number(select.value));
    show(chosen.event_id);
  };
  const select = h("select", { onchange: choose }, delivered.map(option));
  const choice = h("label", {}, h("span", { class: "soft" }, "Window "), select);
  show(first);
  return h("section", { class: "card files", "aria-labelledby": "files-title" },
    h("div", { class: "card-head" }, h("h2", { id: "files-title" }, "Where the files are"), choice),
    body);
}

function table({ target, sites, more_sites: more }) {
  const rows = sites.map((site) =>
    h("tr", {}, h("td", {}, site.name ? h("strong", { class: "site" }, site.name) : "", address(site)), h("td", { class: "number" }, number(site.work_orders)), h("td", { class: "number" }, bytes(site.bytes)), h("td", { class: "number" }, site.revision ?? 1), h("td", {}, outcome(site)), h("td", { class: "digest" }, h("code", {}, site.sha256), copy(site.sha256, "checksum"))),
  );
  const heads = [["File"], ["Work orders", "number"], ["Size", "number"], ["Revision", "number"], ["Outcome"], ["SHA-256"]];
  return h("div", {},
    h("p", { class: "soft" }, "Target ", h("code", {}, target)),
    h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": "Files, scrollable" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, rows))),
    more ? h("p", { class: "soft" }, `and ${plural(more, "more site")}: the command "files" lists all`) : "");
}

function address({ uri, console: page }) {
  const open = page ? outsideLink(page, { "aria-label": `open ${uri} in the provider's console` }, "open in the console") : "";
  return [h("code", {}, uri), copy(uri, "address"), open && " ", open];
}

function copy(text, what) {
  const done = () => announce(`The ${what} is in the clipboard.`);
  return h("button", { type: "button", class: "copy", title: `Copy the ${what}`, "aria-label": `Copy ${what} ${text}`, onclick: () => copyText(text).then(done, () => announce(`The browser does not let the page copy the ${what}.`)) }, "copy");
}

/** The clipboard API needs https; a page on http selects a field and copies that. */
async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  const focused = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  if (!copied) throw new Error("not copied");
}

/** What the customer file says, also before anything was delivered. */
export function about({ about: lines }) {
  if (!lines.length) return "";
  const plain = (text) => text.replace(/^(`+) ?(.*?) ?\1$/, "$2").replaceAll("`", "");
  const shown = lines.filter(([label]) => !["Problem", "Not enabled"].includes(label)).flatMap(([label, text]) => [h("dt", {}, label), h("dd", {}, plain(text), ["Target", "Customer file"].includes(label) ? copy(plain(text), label.toLowerCase()) : "")]);
  return h("section", { class: "card about", "aria-labelledby": "about-title" }, h("h2", { id: "about-title" }, "Configuration"), h("dl", {}, shown));
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
    retry.error ? h("span", { class: "reason" }, reason(`${retry.error}: ${retry.message} `)) : "",
    airflowLink(runPath(dag, retry.run_id), {}, "Open the run"));
}

/** Why the newest windows failed, with what to do about it. */
export function failed({ windows, timezone }, dagId) {
  const found = windows.filter((row) => row.state === "failed" && row.reason).reverse();
  if (!found.length) return "";
  const line = (row) => h("li", {}, airflowLink(runPath(dagId, row.run_id), {}, span(row.start, row.end, timezone)), " ", h("span", { class: "reason" }, reason(row.reason)));
  const rest = found.slice(SHOWN_FAILED).map(line);
  return h("section", { class: "notice failed", "aria-labelledby": "failed-title" },
    h("strong", { id: "failed-title" }, "Failed windows"),
    h("ul", {}, found.slice(0, SHOWN_FAILED).map(line)),
    rest.length ? h("details", {}, h("summary", {}, plural(rest.length, "more window")), h("ul", {}, rest)) : "");
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

/** Delivered windows whose notice the customer's system did not take, newest first. */
export function unheard({ unheard: found, timezone }, dagId) {
  if (!found.length) return "";
  const line = (row) => h("li", {}, airflowLink(runPath(dagId, row.run_id), {}, span(row.start, row.end, timezone)), " ", h("span", { class: "reason" }, reason(row.reason)));
  const rest = found.slice(SHOWN_REFUSED).map(line);
  return h("section", { class: "notice warning", "aria-labelledby": "unheard-title" },
    h("strong", { id: "unheard-title" }, "The notice was not taken"),
    " when these windows were delivered. It is repeated for a day; if it is given up, an alert says so.",
    h("ul", {}, found.slice(0, SHOWN_REFUSED).map(line)),
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
    h("tr", {}, h("td", {}, airflowLink(runPath(dagId, row.run_id), {}, span(row.start, row.end, timezone))), h("td", {}, WINDOW_STATES[row.state]), h("td", { class: "number" }, number(row.totals?.work_orders)), h("td", { class: "number" }, bytes(row.totals?.bytes)), h("td", { class: "reason" }, reason(row.reason))),
  );
  return h("section", { class: "card", "aria-labelledby": "ranges-title" },
    h("h2", { id: "ranges-title" }, "Ranges run by hand"),
    h("table", { class: "plain" }, h("thead", {}, h("tr", {}, [["Range"], ["State"], ["Work orders", "number"], ["Size", "number"], ["Reason"]].map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, rows)));
}
