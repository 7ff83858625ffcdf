// Far out there are too many images to list: the countries that have some are listed instead.

import { around, sees, type Bounds } from "./bounds";
import { make } from "./dom";
import { countryAt, type Country } from "./land";
import type { Place } from "./places";
import { count } from "./words";

export interface CountryWithPlaces {
  name: string;
  places: number;
  bounds: Bounds;
}

const AT_SEA = "At sea, and on small islands";

let before: { countries: readonly Country[]; places: readonly Place[]; names: string[][] } | null = null;

/** Of each tile the countries at its middle and at its corners. */
function namesOf(countries: readonly Country[], places: readonly Place[]): string[][] {
  const known = new Map<string, string>(); // neighbours share corners
  const at = (longitude: number, latitude: number): string => {
    const corner = `${longitude} ${latitude}`;
    const name = known.get(corner) ?? countryAt(countries, longitude, latitude);
    known.set(corner, name);
    return name;
  };
  return places.map(({ longitude, latitude, west, south, east, north }) => {
    const names = new Set([countryAt(countries, longitude, latitude), at(west, south), at(west, north), at(east, south), at(east, north)]);
    names.delete("");
    return names.size > 0 ? [...names] : [AT_SEA];
  });
}

/** Those with imagery in view, the one with the most of it first; the sea, which is none, last. Without borders, none. */
export function countriesOf(countries: readonly Country[], places: readonly Place[], view: Bounds): CountryWithPlaces[] {
  if (before?.countries !== countries || before.places !== places) {
    before = { countries, places, names: namesOf(countries, places) };
  }
  const found = new Map<string, Place[]>();
  if (countries.length === 0) return [];
  places.forEach((each, index) => {
    if (!sees(view, each.longitude, each.latitude)) return;
    for (const name of before!.names[index]!) {
      const others = found.get(name);
      if (others) others.push(each);
      else found.set(name, [each]);
    }
  });
  const listed = [...found].map(([name, all]) => ({
    name,
    places: all.length,
    bounds: around(all.map(({ longitude }) => longitude), all.map(({ latitude }) => latitude)),
  }));
  return listed.sort((one, other) => Number(one.name === AT_SEA) - Number(other.name === AT_SEA) || other.places - one.places || one.name.localeCompare(other.name));
}

export function countryList(found: readonly CountryWithPlaces[], choose: (country: CountryWithPlaces) => void): HTMLElement {
  const most = Math.max(...found.map(({ places }) => places));
  const list = make("ul", { class: "countries" });
  for (const country of found) {
    const button = make("button", { type: "button", "data-key": country.name, "data-bounds": Object.values(country.bounds).join(" ") }, `${country.name} `, make("small", {}, count(country.places)));
    button.style.setProperty("--share", `${Math.sqrt(country.places / most)}`);
    button.addEventListener("click", () => choose(country));
    list.append(make("li", {}, button));
  }
  return make("div", {}, make("p", { class: "quiet" }, "The number of places with images; the bars grow with its square root. Near borders and coasts, this is approximate."), list);
}

export function inWords(found: readonly CountryWithPlaces[]): string {
  const countries = found.filter(({ name }) => name !== AT_SEA).length;
  if (countries === 0) return found.length > 0 ? "Imagery at sea" : "No imagery";
  return countries === 1 ? "Imagery in 1 country" : `Imagery in ${count(countries)} countries`;
}
