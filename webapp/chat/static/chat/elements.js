// Makes DOM nodes. Text is only ever set as text, never parsed as HTML.

export function element(tag, { className, text, ...properties } = {}, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

export function avatar(user) {
  const node = element("span", { className: "avatar", text: initials(user.name), ariaHidden: "true" });
  node.dataset.hue = Math.abs(user.id) % 8;
  return node;
}

function initials(name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [name];
  return letters.map((word) => [...word][0]).join("").toUpperCase();
}

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

export function timeElement(at) {
  const date = new Date(at);
  return element("time", { dateTime: at, text: timeFormat.format(date), title: fullFormat.format(date) });
}

export function dayName(at) {
  const day = new Date(at);
  const today = new Date();
  if (day.toDateString() === today.toDateString()) return "Today";
  today.setDate(today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) return "Yesterday";
  return dayFormat.format(day);
}
