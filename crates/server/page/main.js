// Connects the parts of the page: the live stream feeds the history, the figures and the loop;
// the chat is independent of them.

import { key } from "./api.js";
import { Chat } from "./chat.js";
import { Experts } from "./experts.js";
import { Figures } from "./figures.js";
import { History } from "./history.js";
import { Live } from "./live.js";
import { Loop } from "./loop.js";
import { Motion } from "./motion.js";
import { Plots } from "./plots.js";
import { onPalette, onReducedMotion, reducedMotion } from "./theme.js";

/** 30 frames a second, because the compute needs the processor more than the picture does. */
const FRAME_MS = 1000 / 30;
const FIGURES_MS = 250;
const PLOTS_MS = 500;
const WORDS_MS = 5000;
const HELD_MS = 2000;

const CONNECTION = {
  connecting: "connecting",
  live: "live",
  restarted: "live again: the server was restarted",
  lost: "connection lost; trying again",
  full: "too many pages are open; trying again",
  key: "this server needs an API key: enter it under Settings",
};

const at = (id) => document.getElementById(id);

const history = new History();
const motion = new Motion();
const experts = new Experts();
const figures = new Figures(history);
const plots = new Plots(history);
const loop = new Loop(at("loop"));
const live = new Live();
const chat = new Chat();

live.addEventListener("machine", ({ detail }) => {
  chat.model = detail.model;
  for (const part of [history, motion, figures, plots, loop]) part.machine(detail);
});
for (const name of ["lap", "progress"]) {
  live.addEventListener(name, ({ detail }) => {
    for (const part of [history, motion, figures]) part[name](detail);
  });
}
live.addEventListener("lap", ({ detail }) => experts.lap(detail));
live.addEventListener("connection", ({ detail }) => {
  if (detail === "restarted") history.clear();
  if (detail !== "live") {
    motion.stop();
    figures.stop();
  }
  const pill = at("connection");
  if (pill.dataset.state === detail) return;
  pill.dataset.state = detail;
  pill.textContent = CONNECTION[detail];
  if (detail === "key") at("settings").open = true;
});

at("key").value = key.get();
at("key").addEventListener("change", () => {
  key.set(at("key").value.trim());
  live.wake();
});

let held = reducedMotion();
function hold(on) {
  held = on;
  at("motion").setAttribute("aria-pressed", String(held));
}
at("motion").addEventListener("click", () => hold(!held));
onReducedMotion(hold);
hold(held);
onPalette(() => {
  loop.repaint();
  experts.repaint();
});

/** Calls `work` at most once in `every_ms`. */
function paced(every_ms, work) {
  let last_ms = -Infinity;
  return (now_ms, ...more) => {
    if (now_ms - last_ms < every_ms) return;
    // Slightly early, so that rounding to the screen's frames does not halve the rate.
    last_ms = now_ms - Math.min(4, (now_ms - last_ms) % every_ms);
    work(now_ms, ...more);
  };
}

let moment;
const drawLoop = (now_ms) => {
  loop.draw(moment, motion.record, figures.flow(), now_ms);
  at("loop").dataset.turns = moment.turns.toFixed(3);
  at("loop").dataset.state = moment.state;
};
const moving = paced(FRAME_MS, drawLoop);
const resting = paced(PLOTS_MS, drawLoop);
// Held still, the picture changes every two seconds, without animation.
const standing = paced(HELD_MS, drawLoop);
const showFigures = paced(FIGURES_MS, () => figures.show(held ? 1 : moment.slowed));
const showPlots = paced(PLOTS_MS, () => {
  plots.draw();
  experts.draw();
});
const showWords = paced(WORDS_MS, () => {
  plots.describe();
  at("loop-text").textContent = figures.sentence();
});

function frame(now_ms) {
  moment = motion.at(now_ms);
  (held ? standing : moment.state === "resting" ? resting : moving)(now_ms);
  showFigures(now_ms);
  showPlots(now_ms);
  showWords(now_ms);
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
live.run();
