// Loads stored messages into the list: the latest page first, older ones on demand.

import { call } from "./api.js";

const PAGE = 50;
const CATCH_UP_PAGE = 200;
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 15_000;

export class History {
  #path;
  #list;
  #button;
  #note;
  #observer;
  #isLoading = false;
  #newestStored = null;
  #oldestStored = null;
  #hasMore = false;
  #oldestLive = null;
  #generation = 0;
  #isStopped = false;

  constructor({ roomId, list, scroller, button, note }) {
    this.#path = `rooms/${roomId}/messages`;
    this.#list = list;
    this.#button = button;
    this.#note = note;
    button.addEventListener("click", () => this.loadOlder());
    this.#observer = new IntersectionObserver(([entry]) => entry.isIntersecting && this.loadOlder(), {
      root: scroller,
      rootMargin: "200px 0px 0px 0px",
    });
    this.#observer.observe(button);
  }

  // Loads the latest page. Call it again after the list was cleared.
  async load() {
    if (this.#isStopped) return;
    const generation = ++this.#generation;
    this.#newestStored = this.#oldestStored = null;
    this.#hasMore = false; // until the page has come, every live message is shown
    this.#button.hidden = true;
    for (let wait = FIRST_WAIT; generation === this.#generation; wait = longer(wait)) {
      if (await this.#loadPage(generation, "")) break;
      await pause(wait);
    }
    await this.#catchUp(generation);
  }

  get hasBegun() {
    return this.#generation > 0;
  }

  // Loads what was stored since `load`. Call it when the socket subscribed after `load`.
  catchUp() {
    return this.#catchUp(this.#generation);
  }

  // Stops all requests.
  stop() {
    this.#isStopped = true;
    this.#generation += 1;
    this.#hasMore = false;
    this.#button.hidden = true;
  }

  async loadOlder() {
    if (this.#isLoading || this.#button.hidden) return;
    this.#isLoading = true;
    this.#button.disabled = true;
    const isLoaded = await this.#loadPage(this.#generation, `&before=${this.#oldestStored}`);
    this.#button.disabled = false;
    this.#isLoading = false;
    if (isLoaded) {
      // Observing it again reports whether the button is still in view.
      this.#observer.unobserve(this.#button);
      this.#observer.observe(this.#button);
    }
  }

  // Whether a message belongs to the loaded range. An imported one may be older; it would leave a
  // gap below it, so `loadOlder` loads it later.
  covers(id) {
    return !this.#hasMore || id > this.#oldestStored;
  }

  // Records a message that came by the socket.
  noteLive(id) {
    if (this.#oldestLive === null || id < this.#oldestLive) this.#oldestLive = id;
  }

  forgetLive() {
    this.#oldestLive = null;
  }

  async #loadPage(generation, where) {
    const page = await this.#get(`limit=${PAGE}${where}`);
    if (!page || generation !== this.#generation) return false;
    this.#hasMore = page.has_more;
    this.#button.hidden = !page.has_more;
    this.#show(page.messages);
    this.#oldestStored = page.messages[0]?.id ?? this.#oldestStored;
    if (page.has_more) this.#list.dropOlderThan(this.#oldestStored);
    return true;
  }

  // Another consumer fills the store and may be behind the socket: asks until the messages between
  // the newest stored and the oldest live one have come.
  async #catchUp(generation) {
    for (let wait = FIRST_WAIT; this.#isBehind && generation === this.#generation; wait = longer(wait)) {
      await pause(wait);
      await this.#loadNewer(generation);
      if (this.#isBehind && wait > FIRST_WAIT) this.#say("Some messages are still being stored. They appear here by themselves.");
    }
    if (!this.#isBehind) this.#say("");
  }

  async #loadNewer(generation) {
    if (!this.#newestStored) return this.#loadPage(generation, "");
    let page;
    do {
      page = await this.#get(`limit=${CATCH_UP_PAGE}&after=${this.#newestStored}`);
      if (!page || generation !== this.#generation) return;
      this.#show(page.messages);
    } while (page.has_more);
  }

  get #isBehind() {
    return this.#oldestLive !== null && (this.#newestStored ?? "") < this.#oldestLive;
  }

  async #get(query) {
    try {
      const page = await call("GET", `${this.#path}?${query}`);
      this.#say("");
      return page;
    } catch (error) {
      this.#say(error.message);
      return null;
    }
  }

  #show(messages) {
    const newest = messages.at(-1)?.id;
    if (newest && newest > (this.#newestStored ?? "")) this.#newestStored = newest;
    this.#list.put(...messages);
  }

  #say(text) {
    this.#note.textContent = text;
  }
}

function longer(wait) {
  return Math.min(LONGEST_WAIT, wait * 2);
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
