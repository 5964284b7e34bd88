// Follows rooms' logs by HTTP, for ChatbusClient where no WebSocket comes through. One loop for each
// room asks for what follows the room's position; the server holds the request until there is
// something. No dependencies; it runs in Node too.

const WAIT = 10; // seconds; a page that is left holds a place on the server for so long

export class LogFollower {
  #getLog;
  #position; // (roomId) => {epoch, offset} or null
  #onAnswer; // (roomId, answer, isFirst)
  #onError; // (roomId, error) => whether to ask again
  #delay; // (attempt, retryAfter) => milliseconds
  #loops = new Map();
  #isActive = false;

  constructor(getLog, { position, onAnswer, onError, delay }) {
    this.#getLog = getLog;
    this.#position = position;
    this.#onAnswer = onAnswer;
    this.#onError = onError;
    this.#delay = delay;
  }

  get isActive() {
    return this.#isActive;
  }

  start(roomIds) {
    if (this.#isActive) return;
    this.#isActive = true;
    for (const roomId of roomIds) this.follow(roomId);
  }

  stop() {
    this.#isActive = false;
    for (const roomId of [...this.#loops.keys()]) this.unfollow(roomId);
  }

  follow(roomId) {
    if (!this.#isActive || this.#loops.has(roomId)) return;
    const controller = new AbortController();
    this.#loops.set(roomId, controller);
    this.#run(roomId, controller.signal);
  }

  unfollow(roomId) {
    this.#loops.get(roomId)?.abort();
    this.#loops.delete(roomId);
  }

  async #run(roomId, signal) {
    let isFirst = true;
    let attempts = 0;
    while (!signal.aborted) {
      let retryAfter;
      try {
        const answer = await this.#getLog(roomId, this.#position(roomId), { wait: WAIT, signal });
        if (signal.aborted) return;
        this.#onAnswer(roomId, answer, isFirst);
        isFirst = false;
        retryAfter = answer.retry_after;
        if (retryAfter === undefined) attempts = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (!this.#onError(roomId, error)) return;
        retryAfter = error.retryAfter ?? 0;
      }
      if (retryAfter !== undefined) await pause(this.#delay(attempts++, retryAfter), signal);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
