// What a screen reader says. One sentence at a time, and never token by token.

const place = document.getElementById("said");

/** Says a sentence, also if it is the same as the last. */
export function announce(text) {
  place.textContent = "";
  requestAnimationFrame(() => {
    place.textContent = text;
  });
}
