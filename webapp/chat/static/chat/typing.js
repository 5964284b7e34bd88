// The line that says who is typing. It is cleared after a few seconds.

const HOLDS = 3_500;
const MOST_NAMES = 3;

export class TypingLine {
  #node;
  #user;
  #timer = null;

  constructor({ node, user }) {
    this.#node = node;
    this.#user = user;
  }

  show(users) {
    const names = users.filter(({ id }) => id !== this.#user.id).map(({ name }) => name);
    if (names.length === 0) return;
    this.#node.textContent = sentence(names);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.clear(), HOLDS);
  }

  clear() {
    this.#node.textContent = "";
  }
}

function sentence(names) {
  if (names.length > MOST_NAMES) return `${names.length} people are typing…`;
  const last = names.at(-1);
  if (names.length === 1) return `${last} is typing…`;
  return `${names.slice(0, -1).join(", ")} and ${last} are typing…`;
}
