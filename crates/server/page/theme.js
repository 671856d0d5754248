// Colours and motion as the person has them: read from the style sheet and the
// system, and told of when they change.

const dark = matchMedia("(prefers-color-scheme: dark)");
const contrast = matchMedia("(prefers-contrast: more)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

const NAMES = ["text", "faint", "line", "page", "panel", "compute", "resident", "stream", "stored", "stall"];

let colours = read();
const listeners = [];

function read() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

for (const query of [dark, contrast]) {
  query.addEventListener("change", () => {
    colours = read();
    for (const listener of listeners) listener();
  });
}

/** The colours by their names in the style sheet. */
export const palette = () => colours;

/** Calls back when they change. */
export const onPalette = (listener) => listeners.push(listener);

/** Whether the person asked for little motion. */
export const reducedMotion = () => still.matches;

/** Calls back when that changes. */
export const onReducedMotion = (listener) => still.addEventListener("change", () => listener(still.matches));

/** A canvas's context, with its pixels fitted to its size on the screen. */
export function fitted(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = Math.min(devicePixelRatio || 1, 3);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height, ratio };
}
