// Calls the JSON API. Every failure is an ApiError; its `status` is 0 when there was no answer.

const TIMEOUT = 15_000;
const csrfToken = document.querySelector('meta[name="csrf-token"]').content;

export class ApiError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  // Whether the same request may succeed later.
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function call(method, path, { body, headers = {}, timeout = TIMEOUT, signal } = {}) {
  const signals = [AbortSignal.timeout(timeout), ...(signal ? [signal] : [])];
  const answer = await send(method, path, body, headers, AbortSignal.any(signals));
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  const message = content?.error?.message ?? `The server answered ${answer.status}.`;
  throw new ApiError(answer.status, message, Number(answer.headers.get("Retry-After")) || 0);
}

// The room's log after `position`, or its latest events; the server answers within `wait` seconds.
export function readLog(roomId, position, { wait, signal }) {
  const query = new URLSearchParams({ wait, ...position });
  return call("GET", `rooms/${roomId}/log?${query}`, { timeout: TIMEOUT + wait * 1_000, signal });
}

async function send(method, path, body, headers, signal) {
  const options = { method, headers: { "X-CSRFToken": csrfToken, ...headers }, signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  try {
    return await fetch(`/api/${path}`, options);
  } catch {
    throw new ApiError(0, "The server cannot be reached.");
  }
}
