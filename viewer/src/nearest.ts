// Where the nearest imagery is, for a view that shows none.

import { make } from "./dom";
import { columnOf, rowOf } from "./grid";
import type { Place } from "./places";
import { count } from "./words";

const EARTH_KM = 6371;
const DIRECTIONS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

/** Says how far away it is, and leads there; where no place is known, what to do instead. */
export function wayToNearest(places: readonly Place[] | null, longitude: number, latitude: number, go: (place: Place) => void): HTMLElement {
  const away = (place: Place): number => kilometres(longitude, latitude, place.longitude, place.latitude);
  const [nearest] = (places ?? []).map((place) => ({ place, km: away(place) })).sort((one, other) => one.km - other.km);
  if (!nearest) return make("p", { class: "quiet" }, "Zoom out, or move the map.");
  const { place, km } = nearest;
  // where in its tile the image lies is not known
  const size = kilometres(place.west, place.south, place.east, place.north);
  const rounded = (length: number): string => count(Number(length.toPrecision(2)));
  const where = km < size ? `less than ${rounded(2 * size)} km away` : `some ${rounded(km)} km away, to the ${directionTo(place, longitude, latitude)}`;
  const button = make("button", { type: "button", "data-key": "nearest", "data-place": `${place.longitude} ${place.latitude}` }, "Go there");
  button.addEventListener("click", () => go(place));
  return make("div", {}, make("p", { class: "quiet" }, `The nearest imagery is ${where}.`), button);
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180;

/** The length of the great circle between two points. */
function kilometres(longitude: number, latitude: number, otherLongitude: number, otherLatitude: number): number {
  const [one, other] = [radians(latitude), radians(otherLatitude)];
  const half = Math.sin((other - one) / 2) ** 2 + Math.cos(one) * Math.cos(other) * Math.sin(radians(otherLongitude - longitude) / 2) ** 2;
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(half)));
}

/** As on the map: what is across the pole is not beyond its edge. */
function directionTo(place: Place, longitude: number, latitude: number): string {
  const east = columnOf(place.longitude, 0) - columnOf(longitude, 0); // of a world that is one tile wide
  const north = rowOf(latitude, 0) - rowOf(place.latitude, 0);
  const eighths = Math.round((Math.atan2(east - Math.round(east), north) / Math.PI) * 4);
  return DIRECTIONS[(eighths + 8) % 8]!;
}
