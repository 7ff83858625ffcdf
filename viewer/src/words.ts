// Numbers, times and sizes as people read them.

const number = new Intl.NumberFormat("en-GB");
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });

export const count = (value: number): string => number.format(value);

export const images = (value: number): string => (value === 1 ? "1 image" : `${count(value)} images`);

/** Hours as "20 minutes", "7 hours", "3 days". */
export function span(hours: number): string {
  const [value, unit] =
    hours < 1 ? [Math.round(hours * 60), "minute"] : hours < 48 ? [Math.round(hours), "hour"] : [Math.floor(hours / 24), "day"];
  return value === 1 ? `1 ${unit}` : `${count(value)} ${unit}s`;
}

/** A day of the calendar; what is no date stays as it is. */
export function date(text: string): string {
  const moment = Date.parse(text);
  return Number.isNaN(moment) ? text : day.format(moment);
}

/** Metres of a pixel, as "30 cm" or "2.4 m". */
export function resolution(metres: number): string {
  const digits = (value: number) => Number(value.toPrecision(2));
  return metres < 1 ? `${digits(metres * 100)} cm` : `${digits(metres)} m`;
}

export function bytes(size: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, size < 1 ? 0 : Math.floor(Math.log10(size) / 3));
  return `${count(Number((size / 1000 ** step).toPrecision(3)))} ${units[step]}`;
}

export function place(longitude: number, latitude: number): string {
  const part = (value: number, positive: string, negative: string) =>
    `${Math.abs(value).toFixed(2)}° ${value < 0 ? negative : positive}`;
  return `${part(latitude, "north", "south")}, ${part(longitude, "east", "west")}`;
}
