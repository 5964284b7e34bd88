// The user's own messages until the room shows them: sending, sent, or failed with a retry.

import { call } from "./api.js";
import { element } from "./elements.js";
import { messageNode } from "./message-list.js";

const TRIES = 4;

export class Outgoing {
  #path;
  #user;
  #node;
  #list;
  #waiting = []; // in the order of sending
  #queue = Promise.resolve();

  constructor({ roomId, user, node, list }) {
    this.#path = `rooms/${roomId}/messages`;
    this.#user = user;
    this.#node = node;
    this.#list = list;
  }

  send(body) {
    const message = { key: randomKey(), body, user: this.#user, at: new Date().toISOString(), id: null };
    message.node = pendingNode(message);
    message.node.classList.toggle("first", this.#waiting.length === 0 && !this.#list.continues(message));
    this.#waiting.push(message);
    this.#node.append(message.node);
    this.#list.scrollToEnd();
    this.#enqueue(message);
  }

  // Takes an event of this user from the socket, which often comes before the POST is answered.
  arrived(event) {
    const message = this.#waiting.find(({ id, body, isFailed }) =>
      id ? id === event.id : !isFailed && body === event.data.body,
    );
    if (message) this.#forget(message);
  }

  // Posts one message at a time, so that they keep the order in which they were written.
  #enqueue(message) {
    this.#queue = this.#queue.then(() => this.#post(message));
  }

  async #post(message) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        this.#posted(message, await this.#call(message));
        return;
      } catch (error) {
        if (!error.isTemporary || attempt === TRIES) {
          this.#failed(message, error);
          return;
        }
        await pause(Math.max(error.retryAfter * 1000, 500 * attempt));
      }
    }
  }

  #call({ key, body }) {
    return call("POST", this.#path, { body: { body }, headers: { "Idempotency-Key": key } });
  }

  #posted(message, { id, room_id, at }) {
    message.id = id;
    this.#forget(message);
    if (!this.#list.has(id)) {
      this.#list.put({ id, room_id, at, user: message.user, body: message.body });
    }
  }

  #failed(message, error) {
    if (!this.#waiting.includes(message)) this.#waiting.push(message);
    message.isFailed = true;
    message.node.classList.add("failed");
    const discard = button("Discard", () => this.#forget(message));
    const actions = error.isTemporary ? [button("Try again", () => this.#retry(message)), discard] : [discard];
    delivery(message.node).replaceChildren(element("span", { text: `Not sent. ${error.message}` }), ...actions);
    this.#node.append(message.node);
  }

  #retry(message) {
    message.isFailed = false;
    message.node.classList.remove("failed");
    delivery(message.node).replaceChildren("Sending…");
    this.#enqueue(message);
  }

  #forget(message) {
    this.#waiting = this.#waiting.filter((other) => other !== message);
    message.node.remove();
  }
}

function pendingNode(message) {
  const node = messageNode(message);
  node.classList.add("pending");
  node.append(element("div", { className: "delivery", text: "Sending…", role: "status" }));
  return node;
}

function delivery(node) {
  return node.querySelector(".delivery");
}

function button(text, onclick) {
  return element("button", { type: "button", className: "quiet", text, onclick });
}

// crypto.randomUUID exists on https and localhost only.
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
