// The members panel: lists, invites and removes members; leaves the room.

import { call } from "./api.js";
import { avatar, element } from "./elements.js";

const byId = (id) => document.getElementById(id);

export class Members {
  #room;
  #user;
  #mayManage;
  #last = 0;
  #present = new Set();

  constructor({ roomId, user, mayManage }) {
    this.#room = `rooms/${roomId}`;
    this.#user = user;
    this.#mayManage = mayManage;
    byId("more-members").addEventListener("click", () => this.#load());
    byId("leave")?.addEventListener("click", () => this.#leave());
    byId("invite")?.addEventListener("submit", (event) => this.#invite(event));
    byId("show-members").addEventListener("click", () => this.#open(true));
    byId("hide-members").addEventListener("click", () => this.#open(false));
    byId("people").addEventListener("keydown", ({ key }) => key === "Escape" && this.#open(false));
  }

  async reload() {
    this.#last = 0;
    await this.#load();
  }

  // Marks the members who are in the room now; the server lists at most the first hundred.
  showPresent({ users, count }) {
    this.#present = new Set(users.map(({ id }) => id));
    byId("present-count").textContent = count ? `${count} here now` : "";
    for (const node of byId("members").children) this.#markPresent(node);
  }

  #markPresent(node) {
    const isPresent = this.#present.has(Number(node.dataset.userId));
    node.classList.toggle("present", isPresent);
    node.querySelector(".here").textContent = isPresent ? "here now" : "";
  }

  #open(isOpen) {
    byId("people").classList.toggle("open", isOpen);
    byId("show-members").ariaExpanded = String(isOpen);
    byId(isOpen ? "hide-members" : "show-members").focus();
  }

  async #load() {
    const after = this.#last;
    await this.#trying(async () => {
      const page = await call("GET", `${this.#room}/members?after=${after}`);
      const nodes = page.members.map((member) => this.#memberNode(member));
      if (after === 0) byId("members").replaceChildren(...nodes);
      else byId("members").append(...nodes);
      this.#last = page.members.at(-1)?.id ?? after;
      byId("more-members").hidden = !page.has_more;
    });
  }

  #memberNode(member) {
    const isSelf = member.id === this.#user.id;
    const node = element("li", { className: "member" }, avatar(member));
    node.dataset.userId = member.id;
    node.append(element("span", { className: "member-name", text: member.name, title: member.name }));
    node.append(element("span", { className: "here visually-hidden" }));
    this.#markPresent(node);
    if (isSelf) node.append(element("span", { className: "self", text: "you" }));
    if (member.role !== "member") node.append(element("span", { className: "tag", text: member.role }));
    else if (this.#mayManage && !isSelf) node.append(this.#removeButton(member));
    return node;
  }

  #removeButton(member) {
    const onclick = async () => {
      if (!confirm(`Remove ${member.name} from this room?`)) return;
      await this.#trying(() => call("DELETE", `${this.#room}/members/${member.id}`));
      await this.reload();
    };
    const label = `Remove ${member.name}`;
    return element("button", { type: "button", className: "quiet", text: "Remove", ariaLabel: label, onclick });
  }

  async #leave() {
    if (!confirm("Leave this room? Only an invitation brings you back.")) return;
    await this.#trying(async () => {
      await call("DELETE", `${this.#room}/members/${this.#user.id}`);
      location.assign("/rooms/");
    });
  }

  async #invite(event) {
    event.preventDefault();
    const field = byId("email");
    const note = byId("invite-note");
    try {
      await call("POST", `${this.#room}/invitations`, { body: { email: field.value } });
      note.className = "help";
      note.textContent = `${field.value} is invited. They become a member when they accept.`;
      field.value = "";
    } catch (error) {
      note.className = "error";
      note.textContent = error.message;
    }
    field.focus();
  }

  async #trying(action) {
    const note = byId("members-note");
    try {
      await action();
      note.textContent = "";
    } catch (error) {
      note.textContent = error.message;
    }
  }
}
