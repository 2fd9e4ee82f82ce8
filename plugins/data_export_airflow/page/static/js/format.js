const whole = new Intl.NumberFormat("en-GB");
const formats = {};
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const NONE = "–";

export const number = (value) => (value === null || value === undefined ? NONE : whole.format(value));

/** Decimal units, three digits: `3.1 MB`. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** The two largest units: `3 d 4 h`, `12 min`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < MINUTE) return `${Math.round(seconds)} s`;
  if (seconds < HOUR) return `${Math.round(seconds / MINUTE)} min`;
  if (seconds < DAY) return joined(seconds, HOUR, "h", MINUTE, "min");
  return seconds < 30 * DAY ? joined(seconds, DAY, "d", HOUR, "h") : `${whole.format(Math.round(seconds / DAY))} d`;
}

function joined(seconds, large, largeName, small, smallName) {
  const count = Math.floor(seconds / large);
  const rest = Math.floor((seconds % large) / small);
  return rest ? `${count} ${largeName} ${rest} ${smallName}` : `${count} ${largeName}`;
}

/** `2026-03-16 00:00` in UTC, or in a time zone. */
export function instant(iso, timeZone = "UTC") {
  if (!iso) return NONE;
  return formatOf(timeZone).format(new Date(iso));
}

/** The zone, or UTC where the browser does not know it: some zones are younger than some browsers. */
export function zoneOf(timeZone) {
  try {
    formatOf(timeZone);
    return timeZone;
  } catch {
    return "UTC";
  }
}

/** Cached, because creating one takes longer than the rest of a window's cell. */
function formatOf(timeZone) {
  formats[timeZone] ??= new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "short" });
  return formats[timeZone];
}

/** A window in as few characters as possible: a day by its date, others by start and end (excluded). */
export function span(start, end, timeZone = "UTC") {
  if (!start || !end) return NONE;
  const [from, to] = [instant(start, timeZone), instant(end, timeZone)];
  const hours = (new Date(end) - new Date(start)) / 3_600_000;
  const midnights = from.endsWith("00:00") && to.endsWith("00:00");
  if (midnights && hours > 20 && hours < 28) return from.slice(0, 10);
  if (midnights) return `${from.slice(0, 10)} → ${to.slice(0, 10)}`;
  return from.slice(0, 10) === to.slice(0, 10) ? `${from}–${to.slice(11)}` : `${from} → ${to}`;
}

/** Time from now: `in 3 h 10 min`, `12 min ago`. */
export function relative(iso, now = Date.now()) {
  if (!iso) return NONE;
  const seconds = (new Date(iso) - now) / 1000;
  return seconds >= 0 ? `in ${duration(seconds)}` : `${duration(-seconds)} ago`;
}

/** When the next run starts; an overdue one is "due". */
export const coming = (iso) => (iso && new Date(iso) < Date.now() ? `due ${relative(iso)}` : relative(iso));

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** `3 windows, starting 2025-03-16 up to and including 2025-03-18 (UTC)`: `data_export.wording` says the same. */
export function windowsInWords(count, first, last, timeZone) {
  const starts = [instant(first, timeZone), instant(last, timeZone)];
  const days = (new Date(last) - new Date(first)) / 3_600_000 >= (count - 1) * 20 && starts.every((each) => each.endsWith(" 00:00"));
  const [from, to] = days ? starts.map((each) => each.slice(0, 10)) : starts;
  return `${plural(count, "window")}, starting ${from}${count > 1 ? ` up to and including ${to}` : ""} (${timeZone})`;
}
