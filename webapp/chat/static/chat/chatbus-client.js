// The browser's side of the chatbus socket protocol (JSON text frames). No dependencies; it runs
// in Node too. docs/protocol.md describes the protocol, with a picture.
//
//   const client = new ChatbusClient(getTicket);       // async () => {ticket, url}
//   client.addEventListener("event", ({ detail }) => …) // {roomId, event}
//   client.subscribe(roomId);                           // any number of rooms, at any time
//   client.start();
//
// `getTicket` answers with what POST /api/socket-ticket says. It is called for every connection
// and before a ticket runs out; an error with `status` 401 stops the client, any other is tried
// again. `options.openSocket` (url => WebSocket) is for where sockets need more, as Node does,
// which sends no Origin by itself.
//
// Events, all with `detail`:
//   state      {state, reason}  "connecting", "online", "offline" (tries again), "stopped"
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

const READY_WITHIN = 10_000;
const PING_EVERY = 25_000;
const PONG_WITHIN = 10_000;
const FIRST_DELAY = 500;
const LONGEST_DELAY = 20_000;
const SETTLED_AFTER = 10_000;
const TYPING_EVERY = 2_000;
const REFUSED = 4403;
const OPEN = 1; // of a WebSocket's readyState

class Room {
  position = null;
  subscribing = false;
  attempts = 0;
  askedWithFreshTicket = false;
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
  #socket = null;
  #isReady = false;
  #state = "stopped";
  #attempts = 0;
  #rooms = new Map();
  #timers = {};

  constructor(getTicket, { openSocket = (url) => new WebSocket(url) } = {}) {
    super();
    this.#getTicket = getTicket;
    this.#openSocket = openSocket;
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
    this.#setState("stopped", reason);
  }

  subscribe(roomId) {
    if (this.#rooms.has(roomId)) return;
    this.#rooms.set(roomId, new Room());
    if (this.#isReady) this.#askFor(roomId);
  }

  unsubscribe(roomId) {
    if (this.#rooms.delete(roomId)) this.#send({ type: "unsubscribe", room_id: roomId });
  }

  // The user is typing: call it with every key, it is sent every other second.
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
    this.#setState("connecting");
    const grant = await this.#ticket(() => this.#state === "connecting" && this.#lost());
    if (!grant || this.#state !== "connecting" || this.#socket) return;
    const socket = this.#openSocket(grant.url);
    this.#socket = socket;
    this.#after("ready", READY_WITHIN, () => this.#lost());
    socket.onopen = () => this.#send({ type: "authenticate", ticket: grant.ticket });
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#socket === socket && this.#lost(code);
  }

  // A ticket, or null after `retry` has seen to the failure.
  async #ticket(retry) {
    try {
      return await this.#getTicket();
    } catch (error) {
      if (error.status === 401) this.stop("logged out");
      else retry();
      return null;
    }
  }

  // Another ticket on the same connection; what it allows is asked for once it is accepted.
  async #renew() {
    const socket = this.#socket;
    const grant = await this.#ticket(() => this.#socket === socket && this.#renewSoon(3));
    if (grant && this.#socket === socket) this.#send({ type: "authenticate", ticket: grant.ticket });
  }

  // With jitter, as the others in a room may have the same reason; one ticket serves all rooms.
  #renewSoon(attempt) {
    this.#after("renew", this.#jitter(attempt), () => this.#renew());
  }

  #lost(code) {
    this.#drop();
    if (code === REFUSED) {
      this.stop("refused");
      return;
    }
    this.#setState("offline");
    this.#after("connect", this.#jitter(this.#attempts++), () => this.#connect());
  }

  // Gives the connection up without waiting for its closing handshake.
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#isReady = false;
    for (const room of this.#rooms.values()) room.subscribing = false;
    for (const name of Object.keys(this.#timers)) this.#cancel(name);
    if (socket) socket.close();
  }

  #onOnline = () => {
    if (this.#state === "offline") this.#connect();
    else this.#ping();
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
    this.#after("renew", seconds * 800, () => this.#renew());
    const isFirst = !this.#isReady;
    this.#isReady = true;
    if (isFirst) {
      this.#after("ping", PING_EVERY, () => this.#ping());
      // A connection that ends right after it was let in must not be tried again at full speed.
      this.#after("settled", SETTLED_AFTER, () => (this.#attempts = 0));
    }
    for (const [roomId, room] of this.#rooms) {
      if (isFirst || room.subscribing) this.#askFor(roomId);
    }
    this.#setState("online");
  }

  #onSubscribed(frame, room) {
    const missed = room.position !== null && !frame.recovered;
    room.subscribing = false;
    room.askedWithFreshTicket = false;
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
    if (room.subscribing || !room.position) return; // the answer to the subscription will contain it
    const { epoch, offset } = room.position;
    const isFirstOfAll = epoch === "" && frame.offset === 1;
    if ((frame.epoch !== epoch && !isFirstOfAll) || frame.offset > offset + 1) {
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
      room.subscribing = true;
      this.#renewSoon(room.attempts++);
    } else if (reason === "removed") {
      this.#rooms.delete(roomId);
      this.#emit("removed", { roomId });
    }
  }

  #onError({ code, room_id: roomId }, room) {
    if (!room) return;
    if (code === "unavailable") {
      const delay = this.#jitter(room.attempts++);
      this.#after(`room ${roomId}`, delay, () => this.#askFor(roomId));
    } else if (code === "forbidden" && !room.askedWithFreshTicket) {
      // The ticket may be older than the membership.
      room.askedWithFreshTicket = true;
      room.subscribing = true;
      this.#renew();
    } else if (code === "forbidden") {
      this.#rooms.delete(roomId);
      this.#emit("forbidden", { roomId });
    }
  }

  // Helpers ---------------------------------------------------------------------------------

  // Full jitter: anything up to the bound, so that many browsers do not come back at once.
  #jitter(attempt) {
    return Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempt);
  }

  #after(name, milliseconds, action) {
    this.#cancel(name);
    this.#timers[name] = setTimeout(action, milliseconds);
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
