// The messages on the page, in the order of their ids, each of them once.

import { avatar, dayName, element, timeElement } from "./elements.js";

const GROUP_MILLISECONDS = 5 * 60_000;
const NEAR_BOTTOM = 80;

export class MessageList {
  #list;
  #scroller;
  #newest;
  #messages = []; // by id
  #nodes = new Map(); // id -> li
  #days = new Map(); // id -> the day line above it
  #isAtEnd = true; // whether the reader is, and wants to stay, at the newest message
  #top = 0; // the last scroll position

  constructor({ list, scroller, newest }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#newest = newest;
    newest.addEventListener("click", () => this.scrollToEnd());
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    const follow = new ResizeObserver(() => this.#isAtEnd && this.scrollToEnd());
    for (const node of [scroller, ...scroller.children]) follow.observe(node);
  }

  has(id) {
    return this.#nodes.has(id);
  }

  clear() {
    this.#messages = [];
    this.#nodes.clear();
    this.#days.clear();
    this.#list.replaceChildren();
    this.#top = 0;
  }

  dropOlderThan(id) {
    const count = this.#indexOf(id);
    for (const message of this.#messages.splice(0, count)) {
      this.#days.get(message.id)?.remove();
      this.#days.delete(message.id);
      this.#nodes.get(message.id).remove();
      this.#nodes.delete(message.id);
    }
    if (count) this.#arrange(0);
  }

  // Adds new messages and replaces changed ones. The reader's scroll position stays.
  put(...messages) {
    this.#keepingPlace(() => messages.forEach((message) => this.#put(message)));
  }

  // Whether `message` would follow the newest one without a heading of its own.
  continues(message) {
    const newest = this.#messages.at(-1);
    return newest !== undefined && dayName(newest.at) === dayName(message.at) && continues(newest, message);
  }

  // Applies an edit or a deletion, if the message is shown.
  change(id, changes) {
    const message = this.#messages[this.#indexOf(id)];
    if (message?.id === id) this.put({ ...message, ...changes });
  }

  scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#top = this.#scroller.scrollTop;
    this.#newest.hidden = true;
    this.#isAtEnd = true;
  }

  // Scroll events come a frame late, when the list may have grown: only a reader who scrolled up
  // has left the end.
  #onScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM;
    this.#isAtEnd = isNear || (this.#isAtEnd && scrollTop >= this.#top);
    this.#top = scrollTop;
    if (isNear) this.#newest.hidden = true;
  }

  #keepingPlace(change) {
    if (this.#isAtEnd) {
      change(); // the ResizeObserver scrolls to the end
      return;
    }
    const anchor = this.#firstVisible();
    const before = anchor?.getBoundingClientRect().top;
    const newest = this.#messages.at(-1);
    change();
    if (anchor) this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    if (this.#messages.at(-1) !== newest) this.#newest.hidden = false;
  }

  #firstVisible() {
    const top = this.#scroller.getBoundingClientRect().top;
    return [...this.#nodes.values()].find((node) => node.getBoundingClientRect().bottom > top);
  }

  #put(message) {
    const index = this.#indexOf(message.id);
    const isKnown = this.#messages[index]?.id === message.id;
    this.#messages.splice(index, isKnown ? 1 : 0, message);
    const node = message.user ? messageNode(message) : lineNode(message);
    if (isKnown) this.#nodes.get(message.id).replaceWith(node);
    else this.#insert(node, index);
    this.#nodes.set(message.id, node);
    this.#arrange(index);
    this.#arrange(index + 1);
  }

  #insert(node, index) {
    const next = this.#messages[index + 1];
    if (!next) node.classList.add("arriving");
    this.#list.insertBefore(node, next ? (this.#days.get(next.id) ?? this.#nodes.get(next.id)) : null);
  }

  // Puts a day line above a message, and a heading unless it continues the message above.
  #arrange(index) {
    const message = this.#messages[index];
    if (!message) return;
    const previous = this.#messages[index - 1];
    const node = this.#nodes.get(message.id);
    const beginsDay = !previous || dayName(previous.at) !== dayName(message.at);
    this.#days.get(message.id)?.remove();
    this.#days.delete(message.id);
    if (beginsDay) {
      const day = element("li", { className: "day", text: dayName(message.at) });
      this.#days.set(message.id, day);
      node.before(day);
    }
    node.classList.toggle("first", beginsDay || !continues(previous, message));
  }

  // The index of `id`, or where to insert it. Most messages are newer than all others.
  #indexOf(id) {
    let index = this.#messages.length;
    while (index > 0 && this.#messages[index - 1].id >= id) index -= 1;
    return index;
  }
}

function continues(previous, message) {
  return (
    previous.user !== undefined &&
    previous.user.id === message.user?.id &&
    previous.user.name === message.user.name &&
    new Date(message.at) - new Date(previous.at) < GROUP_MILLISECONDS
  );
}

export function messageNode(message) {
  const text = message.deleted_at ? "This message was deleted." : message.body;
  const node = element("li", { className: "message" });
  node.dataset.id = message.id;
  node.classList.toggle("deleted", Boolean(message.deleted_at));
  node.append(
    avatar(message.user),
    element("span", { className: "author", text: message.user.name }),
    timeElement(message.at),
    element("div", { className: "text", text }),
  );
  if (message.edited_at && !message.deleted_at) {
    node.querySelector(".text").append(element("span", { className: "edited", text: "edited" }));
  }
  return node;
}

function lineNode(message) {
  const node = element("li", { className: "event-line", text: message.line });
  node.dataset.id = message.id;
  return node;
}
