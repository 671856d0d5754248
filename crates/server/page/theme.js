// The user's colours and preference for motion, read from the style sheet and the system,
// with callbacks for changes; and canvases fitted to the screen.

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

/** Calls `listener` when the colours change. */
export const onPalette = (listener) => listeners.push(listener);

/** Whether the user prefers reduced motion. */
export const reducedMotion = () => still.matches;

/** Calls `listener` when that preference changes. */
export const onReducedMotion = (listener) => still.addEventListener("change", () => listener(still.matches));

/** A canvas's context, with as many pixels as it has on the screen. */
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
