// The browser's side of the chatbus socket protocol (JSON text frames). No dependencies but the
// module beside it; it runs in Node too. docs/protocol.md describes the protocol, with a picture.
//
//   const client = new ChatbusClient(getTicket);       // async () => {ticket, url}
//   client.addEventListener("event", ({ detail }) => …) // {roomId, event}
//   client.subscribe(roomId);                           // any number of rooms, at any time
//   client.start();
//
// `getTicket` returns the answer of POST /api/socket-ticket. The client calls it for every
// connection and before a ticket expires. An error with `status` 401 or 403 stops the client. After
// any other error the client calls it again, at least `retryAfter` seconds later if the error has
// that property. `options.openSocket` (url => WebSocket) opens sockets where the default does not
// do: Node, for one, sends no Origin by itself.
//
// `options.getLog` is for networks that let no WebSocket through: an async function (roomId,
// position or null, {wait, signal}) that returns the answer of GET /api/rooms/{roomId}/log. When
// FALLBACK_AFTER attempts to connect have failed and none has ever succeeded, the client follows the
// rooms with it, without presence and typing, and tries a socket once in a while. An error with
// `status` 401 stops the client, one with 403 or 404 ends the room, any other is tried again.
//
// Events, all with `detail`:
//   state      {state, reason}  "connecting", "online", "offline" (it tries again), "stopped"; the
//                               reason: "asked", "logged out", "refused", or an error's message; of
//                               "online": "http" without a socket
//   subscribed {roomId, recovered}
//   reset      {roomId}         events were missed: reload the room's history; the events that
//                               follow are the room's latest
//   event      {roomId, event}  each event once
//   presence   {roomId, users, count}  who is in the room now: [{id, name}], at most 100 of them
//   typing     {roomId, users}  who is typing now; say it with client.typing(roomId)
//   removed    {roomId}         the user is no longer a member
//   forbidden  {roomId}         the user is not a member, whatever the ticket
//
// A position in a room's log is {epoch, offset}; it is only for resuming after a lost connection.

import { LogFollower } from "./log-follower.js";

const TICKET_WITHIN = 30_000;
const READY_WITHIN = 10_000;
const PING_EVERY = 25_000;
const PONG_WITHIN = 10_000;
const FIRST_DELAY = 500;
const LONGEST_DELAY = 20_000;
const SETTLED_AFTER = 10_000;
const TYPING_EVERY = 2_000;
const FALLBACK_AFTER = 2;
const SOCKET_EVERY = 60_000; // while the rooms are followed by HTTP
const REFUSED = 4403;
const FINAL = { 401: "logged out", 403: "refused" }; // statuses of POST /api/socket-ticket
const OPEN = 1; // of a WebSocket's readyState

class Room {
  position = null;
  subscribing = false; // until the answer, events of the room are not shown
  needsTicket = false; // waits for a ticket newer than `ticketsBefore` before it subscribes
  ticketsBefore = null; // how many tickets had been fetched at the first subscribe
  attempts = 0;
  typedAt = -Infinity;
  seen = new Set();

  isNew(eventId) {
    if (this.seen.has(eventId)) return false;
    this.seen.add(eventId);
    if (this.seen.size > 2_000) this.seen.delete(this.seen.values().next().value);
    return true;
  }
}

export class ChatbusClient extends EventTarget {
  #getTicket;
  #openSocket;
  #attempt = null; // tickets and sockets of earlier attempts are ignored
  #socket = null;
  #isReady = false;
  #isRenewing = false;
  #state = "stopped";
  #attempts = 0;
  #failedRenewals = 0;
  #tickets = 0; // how many were fetched; a ticket's number
  #sentTicket = 0;
  #rooms = new Map();
  #timers = {};
  #socketsTried = 0;
  #wasReady = false;
  #follower = null;

  constructor(getTicket, { openSocket = (url) => new WebSocket(url), getLog = null } = {}) {
    super();
    this.#getTicket = getTicket;
    this.#openSocket = openSocket;
    if (getLog) {
      this.#follower = new LogFollower(getLog, {
        position: (roomId) => this.#rooms.get(roomId)?.position ?? null,
        onAnswer: (roomId, answer, isFirst) => this.#onLog(roomId, answer, isFirst),
        onError: (roomId, error) => this.#onLogError(roomId, error),
        delay: (attempt, retryAfter) => this.#delay(attempt, retryAfter),
      });
    }
  }

  start() {
    if (this.#state !== "stopped") return;
    globalThis.addEventListener?.("online", this.#onOnline);
    globalThis.addEventListener?.("offline", this.#onOffline);
    this.#connect();
  }

  stop(reason = "asked") {
    globalThis.removeEventListener?.("online", this.#onOnline);
    globalThis.removeEventListener?.("offline", this.#onOffline);
    this.#drop();
    this.#follower?.stop();
    this.#setState("stopped", reason);
  }

  subscribe(roomId) {
    if (this.#rooms.has(roomId)) return;
    this.#rooms.set(roomId, new Room());
    if (this.#isReady) this.#askFor(roomId);
    else this.#follower?.follow(roomId);
  }

  unsubscribe(roomId) {
    if (!this.#rooms.delete(roomId)) return;
    this.#follower?.unfollow(roomId);
    this.#send({ type: "unsubscribe", room_id: roomId });
  }

  // Call it at every key press; the client sends it at most every other second.
  typing(roomId) {
    const room = this.#rooms.get(roomId);
    if (!room || !this.#isReady || room.subscribing) return;
    const now = performance.now();
    if (now - room.typedAt < TYPING_EVERY) return;
    room.typedAt = now;
    this.#send({ type: "typing", room_id: roomId });
  }

  // Connecting ------------------------------------------------------------------------------

  async #connect() {
    this.#drop();
    const attempt = (this.#attempt = {});
    this.#setSocketState("connecting");
    const ticket = await this.#fetchTicket(attempt, (error) => this.#lost(error));
    if (!ticket) return;
    try {
      this.#open(attempt, ticket);
    } catch (error) {
      this.#lost(error);
    }
  }

  #open(attempt, ticket) {
    this.#socketsTried++;
    const socket = this.#openSocket(ticket.url);
    this.#socket = socket;
    socket.onopen = () => this.#attempt === attempt && this.#authenticate(ticket);
    socket.onmessage = ({ data }) => this.#attempt === attempt && this.#receive(JSON.parse(data));
    // A connection that failed has no code. (Node 20 says nothing else of one that was never made.)
    socket.onerror = () => this.#attempt === attempt && this.#lost();
    socket.onclose = ({ code }) => this.#attempt === attempt && this.#lost({ code });
  }

  // Returns a ticket with its number, or null when the attempt is over or `retry` handles an error.
  // "ready" must follow within READY_WITHIN.
  async #fetchTicket(attempt, retry) {
    const number = ++this.#tickets;
    try {
      const ticket = await Promise.race([this.#getTicket(), this.#overdue()]);
      if (this.#attempt !== attempt) return null;
      this.#cancel("ticket");
      this.#after("ready", READY_WITHIN, () => this.#lost());
      return { ...ticket, number };
    } catch (error) {
      if (this.#attempt !== attempt) return null;
      this.#cancel("ticket");
      if (FINAL[error.status]) this.stop(FINAL[error.status]);
      else retry(error);
      return null;
    }
  }

  #overdue() {
    return new Promise((_, reject) =>
      this.#after("ticket", TICKET_WITHIN, () => reject(new Error("no ticket came in time"))),
    );
  }

  #authenticate({ ticket, number }) {
    this.#sentTicket = number;
    this.#send({ type: "authenticate", ticket });
  }

  // Sends another ticket on the same connection, one at a time. Rooms that wait for it are
  // subscribed once it is accepted.
  async #renew() {
    if (!this.#isReady || this.#isRenewing) return;
    this.#isRenewing = true;
    const ticket = await this.#fetchTicket(this.#attempt, ({ retryAfter }) => {
      this.#isRenewing = false;
      const delay = this.#delay(this.#failedRenewals++, retryAfter);
      this.#after("renew", delay, () => this.#renew());
    });
    if (ticket) this.#authenticate(ticket);
  }

  // One ticket serves all rooms that wait for one. A ticket that is being fetched may be too old
  // for some; `#onReady` then renews again.
  #renewSoon(delay) {
    if (this.#timers.soon || this.#isRenewing || this.#failedRenewals) return;
    this.#after("soon", delay, () => this.#renew());
  }

  #lost({ code, message, retryAfter } = {}) {
    this.#drop();
    if (code === REFUSED) {
      this.stop("refused");
      return;
    }
    if (!this.#wasReady && this.#socketsTried >= FALLBACK_AFTER) this.#follower?.start(this.#rooms.keys());
    const delay = this.#follower?.isActive
      ? SOCKET_EVERY * (0.5 + Math.random())
      : this.#delay(this.#attempts++, retryAfter);
    this.#after("connect", delay, () => this.#connect());
    this.#setSocketState("offline", message);
  }

  // What happens to sockets is not shown while the rooms are followed by HTTP.
  #setSocketState(state, reason) {
    if (!this.#follower?.isActive) this.#setState(state, reason);
  }

  // Drops the connection without waiting for the closing handshake.
  #drop() {
    const socket = this.#socket;
    this.#attempt = null;
    this.#socket = null;
    this.#isReady = false;
    this.#isRenewing = false;
    for (const room of this.#rooms.values()) room.subscribing = false;
    for (const name of Object.keys(this.#timers)) this.#cancel(name);
    if (socket) socket.close();
  }

  #onOnline = () => {
    if (this.#isReady) this.#ping();
    else this.#connect();
  };

  #onOffline = () => this.#ping();

  // Talking ---------------------------------------------------------------------------------

  #send(frame) {
    if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #ping() {
    if (!this.#isReady) return;
    this.#send({ type: "ping" });
    this.#after("pong", PONG_WITHIN, () => this.#lost());
    this.#after("ping", PING_EVERY, () => this.#ping());
  }

  #askFor(roomId) {
    const room = this.#rooms.get(roomId);
    if (!room || !this.#isReady) return;
    room.subscribing = true;
    room.needsTicket = false;
    room.ticketsBefore ??= this.#tickets;
    const since = room.position ? { since: room.position } : {};
    this.#send({ type: "subscribe", room_id: roomId, ...since });
  }

  #receive(frame) {
    this.#cancel("pong");
    this.#handlers[frame.type]?.(frame, this.#rooms.get(frame.room_id));
  }

  #handlers = {
    ready: (frame) => this.#onReady(frame),
    subscribed: (frame, room) => room && this.#onSubscribed(frame, room),
    event: (frame, room) => room && this.#onEvent(frame, room),
    unsubscribed: (frame, room) => room && this.#onUnsubscribed(frame, room),
    presence: ({ room_id: roomId, users, count }, room) =>
      room && this.#emit("presence", { roomId, users, count }),
    typing: ({ room_id: roomId, users }, room) => room && this.#emit("typing", { roomId, users }),
    error: (frame, room) => this.#onError(frame, room),
  };

  #onReady({ refresh_in: seconds }) {
    this.#cancel("ready");
    this.#isRenewing = false;
    this.#failedRenewals = 0;
    // At a random time, so that clients that reconnected together do not renew together.
    this.#after("renew", seconds * 1000 * (0.5 + 0.3 * Math.random()), () => this.#renew());
    const isFirst = !this.#isReady;
    this.#isReady = true;
    if (isFirst) {
      this.#wasReady = true;
      this.#follower?.stop();
      this.#after("ping", PING_EVERY, () => this.#ping());
      // A connection that ends soon after "ready" must not reset the backoff.
      this.#after("settled", SETTLED_AFTER, () => (this.#attempts = 0));
    }
    for (const [roomId, room] of this.#rooms) {
      if (isFirst || (room.needsTicket && this.#isFresh(room))) this.#askFor(roomId);
      else if (room.needsTicket) this.#renewSoon(this.#delay(0));
    }
    this.#setState("online");
  }

  // Whether the ticket was fetched after the room's first subscribe.
  #isFresh(room) {
    return this.#sentTicket > room.ticketsBefore;
  }

  #onSubscribed(frame, room) {
    const missed = room.position !== null && !frame.recovered;
    room.subscribing = false;
    room.ticketsBefore = null;
    room.attempts = 0;
    room.position = { epoch: frame.epoch, offset: frame.offset };
    if (missed) {
      room.seen.clear();
      this.#emit("reset", { roomId: frame.room_id });
    }
    for (const event of frame.events) this.#deliver(frame.room_id, room, event);
    this.#emit("subscribed", { roomId: frame.room_id, recovered: frame.recovered });
  }

  #onEvent(frame, room) {
    if (room.subscribing || !room.position) return; // the answer to subscribe will contain it
    const { epoch, offset } = room.position;
    if (frame.epoch !== epoch || frame.offset > offset + 1) {
      this.#askFor(frame.room_id);
    } else if (frame.offset === offset + 1) {
      room.position = { epoch: frame.epoch, offset: frame.offset };
      this.#deliver(frame.room_id, room, frame.event);
    }
  }

  #deliver(roomId, room, event) {
    if (room.isNew(event.id)) this.#emit("event", { roomId, event });
  }

  #onUnsubscribed({ room_id: roomId, reason }, room) {
    if (reason === "resync") {
      this.#await(room, this.#tickets);
      // With jitter, because every client in the room does the same.
      this.#renewSoon(this.#delay(room.attempts++));
    } else if (reason === "removed") {
      this.#rooms.delete(roomId);
      this.#emit("removed", { roomId });
    }
  }

  #onError({ code, room_id: roomId }, room) {
    if (!room) return;
    if (code === "unavailable") {
      const delay = this.#delay(room.attempts++);
      this.#after(`room ${roomId}`, delay, () => this.#askFor(roomId));
    } else if (code === "forbidden" && !this.#isFresh(room)) {
      // The ticket may be older than the membership.
      this.#await(room, room.ticketsBefore);
      this.#renewSoon(0);
    } else if (code === "forbidden") {
      this.#rooms.delete(roomId);
      this.#emit("forbidden", { roomId });
    }
  }

  #await(room, ticketsBefore) {
    room.subscribing = true;
    room.needsTicket = true;
    room.ticketsBefore = ticketsBefore;
  }

  // Without a socket --------------------------------------------------------------------------

  #onLog(roomId, answer, isFirst) {
    const room = this.#rooms.get(roomId);
    if (isFirst || !answer.recovered) {
      this.#onSubscribed({ ...answer, room_id: roomId }, room);
    } else {
      room.position = { epoch: answer.epoch, offset: answer.offset };
      for (const event of answer.events) this.#deliver(roomId, room, event);
    }
    this.#setState("online", "http");
  }

  // Whether to ask again.
  #onLogError(roomId, { status, message }) {
    if (status === 401) {
      this.stop(FINAL[status]);
      return false;
    }
    if (status === 403 || status === 404) {
      const wasIn = this.#rooms.get(roomId).position !== null;
      this.unsubscribe(roomId);
      this.#emit(wasIn ? "removed" : "forbidden", { roomId });
      return false;
    }
    this.#setState("offline", message);
    return true;
  }

  // Helpers ---------------------------------------------------------------------------------

  // Full jitter: a random delay up to the bound, so that clients do not all come back at once, after
  // the `retryAfter` seconds that the server may have asked for.
  #delay(attempt, retryAfter = 0) {
    return retryAfter * 1000 + Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempt);
  }

  #after(name, milliseconds, action) {
    this.#cancel(name);
    this.#timers[name] = setTimeout(() => {
      delete this.#timers[name];
      action();
    }, milliseconds);
  }

  #cancel(name) {
    clearTimeout(this.#timers[name]);
    delete this.#timers[name];
  }

  #setState(state, reason = null) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", { state, reason });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
