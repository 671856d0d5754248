// Formats numbers with units. Sizes use powers of 1024, rates powers of 1000, as everywhere in
// Delayline.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];
const RATES = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];

/** A number with three significant digits or more, without an exponent. */
export function digits(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return whole(value);
  return value.toFixed(size >= 10 ? 1 : 2);
}

/** A whole number with thin spaces between thousands. */
export function whole(value) {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function scaled(value, base, units) {
  let step = 0;
  while (Math.abs(value) >= base && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  return `${digits(value)} ${units[step]}`;
}

/** Bytes. */
export const bytes = (value) => scaled(value, 1024, SIZES);

/** Bytes per second. */
export const rate = (value) => scaled(value, 1000, RATES);

/** Seconds. */
export function seconds(value) {
  if (value >= 120) return `${digits(value / 60)} min`;
  return value >= 1 ? `${digits(value)} s` : `${digits(value * 1000)} ms`;
}

/** A fraction, in percent. */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** A count and its noun. */
export const count = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;
