/** Airflow's own base address; ours is one folder below. */
export const AIRFLOW = new URL("../", new URL(".", document.baseURI));

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** JSON of this page's API. */
export function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return request(new URL(`api/${path}?${new URLSearchParams(given)}`, document.baseURI));
}

/** JSON of Airflow's public API, as the signed-in user. */
export function airflow(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  return request(new URL(`api/v2/${path}`, AIRFLOW), options);
}

async function request(url, options) {
  const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(60_000) });
  if (answer.ok) return answer.json();
  const { detail } = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, explain(answer.status, detail));
}

function explain(status, detail) {
  if (status === 401) return "You are no longer signed in to Airflow: reload the page and sign in.";
  const reason = typeof detail === "string" ? detail : detail ? JSON.stringify(detail) : "";
  if (status === 403) return `Your Airflow user may not do this. ${reason}`;
  return reason || `The server answered ${status}.`;
}
