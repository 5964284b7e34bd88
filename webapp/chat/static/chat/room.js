// The page of one room: connects history, socket, composer and members.

import { call, readLog } from "./api.js";
import { ChatbusClient } from "./chatbus-client.js";
import { Composer } from "./composer.js";
import { History } from "./history.js";
import { Members } from "./members.js";
import { MessageList } from "./message-list.js";
import { Outgoing } from "./outgoing.js";
import { TypingLine } from "./typing.js";

const byId = (id) => document.getElementById(id);
const page = byId("room").dataset;
const roomId = page.roomId;
const user = { id: Number(page.userId), name: page.userName };

const scroller = byId("scroller");
const list = new MessageList({ list: byId("messages"), scroller, newest: byId("newest") });
const history = new History({ roomId, list, scroller, button: byId("older"), note: byId("history-note") });
const outgoing = new Outgoing({ roomId, user, node: byId("outgoing"), list });
const members = new Members({ roomId, user, mayManage: page.mayManage === "true" });
const typing = new TypingLine({ node: byId("typing"), user });
const composer = new Composer({
  form: byId("composer"),
  field: byId("body"),
  button: byId("send"),
  count: byId("count"),
  maximum: Number(page.maxBody),
  onSend: (text) => outgoing.send(text),
  onType: () => client.typing(roomId),
});

const memberLines = {
  "room.created": ({ actor }) => `${actor.name} created the room`,
  "room.renamed": ({ actor, data }) => `${actor.name} renamed the room to ${data.name}`,
  "member.added": ({ actor, data }) => {
    if (data.role === "owner") return null; // "created the room" says so
    return actor.id === data.user.id ? `${actor.name} joined` : `${actor.name} added ${data.user.name}`;
  },
  "member.removed": ({ actor, data }) =>
    actor.id === data.user.id ? `${actor.name} left` : `${actor.name} removed ${data.user.name}`,
};

const handlers = {
  "message.posted": ({ id, at, actor, data }) => {
    typing.clear();
    if (!history.covers(id)) return;
    history.noteLive(id);
    list.put({ id, at, user: actor, body: data.body });
  },
  "message.edited": ({ at, data }) => list.change(data.message_id, { body: data.body, edited_at: at }),
  "message.deleted": ({ at, data }) => list.change(data.message_id, { deleted_at: at }),
};

function show(event) {
  if (event.type === "message.posted" && event.actor.id === user.id) outgoing.arrived(event);
  handlers[event.type]?.(event);
  const line = memberLines[event.type]?.(event);
  if (line && history.covers(event.id)) list.put({ id: event.id, at: event.at, line });
  if (event.type.startsWith("member.")) members.reload();
}

const states = {
  connecting: "Connecting…",
  online: "Connected",
  offline: "Connection lost, trying again…",
  stopped: "Not connected",
};

function showState({ state, reason }) {
  const indicator = byId("connection");
  indicator.dataset.state = state;
  indicator.textContent = states[state];
  if (state !== "online") members.showPresent({ users: [], count: 0 });
  if (reason === "logged out") close("You are logged out. Reload the page to log in again.");
  if (reason === "refused") close("The chat server refused this page's connection. Reload the page.");
}

function close(text) {
  client.stop();
  clearTimeout(withoutSocket);
  history.stop();
  byId("removed-reason").textContent = text;
  byId("removed").hidden = false;
  composer.close();
  byId("composer").hidden = true;
  byId("leave")?.remove();
}

const client = new ChatbusClient(() => call("POST", "socket-ticket"), { getLog: readLog });
client.addEventListener("state", ({ detail }) => showState(detail));
client.addEventListener("event", ({ detail }) => show(detail.event));
client.addEventListener("presence", ({ detail }) => members.showPresent(detail));
client.addEventListener("typing", ({ detail }) => typing.show(detail.users));
client.addEventListener("removed", () => close("You are no longer a member of this room."));
client.addEventListener("forbidden", () => close("You are not a member of this room."));
client.addEventListener("reset", () => {
  list.clear();
  history.forgetLive();
  history.load();
});
// The history loads once the socket has subscribed, so that no message is missed in between. Without
// a socket the history loads anyway, and `catchUp` loads the rest once there is one.
const withoutSocket = setTimeout(() => history.load(), 1_500);
let isFollowing = false;
client.addEventListener("subscribed", () => {
  clearTimeout(withoutSocket);
  if (isFollowing) return;
  isFollowing = true;
  if (history.hasBegun) history.catchUp();
  else history.load();
});
client.subscribe(roomId);
client.start();
members.reload();
byId("body").focus();
document.querySelector(".sidebar [aria-current]").scrollIntoView({ block: "center" });
