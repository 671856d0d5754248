// Announcements for screen readers: whole sentences, not single tokens.

const place = document.getElementById("said");

/** Announces a sentence, even if it is the same as the last. */
export function announce(text) {
  place.textContent = "";
  requestAnimationFrame(() => {
    place.textContent = text;
  });
}
