// The message field: Enter sends, Shift+Enter starts a new line.

const SHOW_COUNT_FROM = 0.9;

export class Composer {
  #field;
  #button;
  #count;
  #maximum;
  #isClosed = false;

  constructor({ form, field, button, count, maximum, onSend, onType }) {
    this.#field = field;
    this.#button = button;
    this.#count = count;
    this.#maximum = maximum;
    field.addEventListener("input", () => {
      this.#update();
      if (field.value.trim() !== "") onType();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#canSend) this.#send(onSend);
    });
    this.#update();
  }

  close() {
    this.#isClosed = true;
    this.#field.disabled = true;
    this.#update();
  }

  #send(onSend) {
    const text = this.#field.value;
    this.#field.value = "";
    this.#update();
    onSend(text);
  }

  // In code points, as the server counts, not in UTF-16 units.
  get #length() {
    return [...this.#field.value].length;
  }

  get #canSend() {
    return !this.#isClosed && this.#field.value.trim() !== "" && this.#length <= this.#maximum;
  }

  #update() {
    const length = this.#length;
    const isOver = length > this.#maximum;
    this.#button.disabled = !this.#canSend;
    this.#count.classList.toggle("over", isOver);
    this.#count.textContent = length > this.#maximum * SHOW_COUNT_FROM ? `${length} of ${this.#maximum} characters` : "";
    this.#field.ariaInvalid = String(isOver);
  }
}
