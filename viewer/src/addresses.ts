// The addresses under which each client reads the mosaic, to copy.

import { make } from "./dom";
import { publicAddress, type Config, type Mosaic } from "./mosaic";

interface Address {
  client: string;
  how: string;
  address: string;
}

export function addresses({ config, pointer, coverage, imagery }: Mosaic): Address[] {
  const found: Address[] = [
    {
      client: "PMTiles",
      how: "The newest mosaic. MapLibre, OpenLayers, Leaflet and GDAL read it in pieces; layer globalcoverage, property id.",
      address: publicAddress(config, config.archive),
    },
    {
      client: "PMTiles, this build",
      how: "Never changes: for maps that stay open, and for whoever quotes it.",
      address: publicAddress(config, pointer.archive),
    },
  ];
  if (config.public !== null) {  // in a folder it names the archive as a file of the machine that built it
    found.push({
      client: "TileJSON",
      how: "Zooms, bounds and fields, for maps that read PMTiles.",
      address: publicAddress(config, config.tilejson),
    });
  }
  if (coverage !== null) {
    found.push({
      client: "PMTiles, raster coverage",
      how: `The newest, as pictures, zooms ${config.zoom_min} to ${config.zoom_max}.`,
      address: publicAddress(config, config.coverage_archive),
    });
  }
  if (imagery !== null) {
    found.push({
      client: "PMTiles, imagery",
      how: "The newest: what the images show, as WEBP pictures of 256 pixels, zooms 0 to 14.",
      address: publicAddress(config, config.imagery_archive),
    });
  }
  return [...found, ...vector(config), ...raster(config, { coverage, imagery })];
}

function vector({ vector_tiles: template, zoom_min, zoom_max }: Config): Address[] {
  if (!template) return [];
  return [
    { client: "Vector tiles (XYZ)", how: "For clients that read vector tiles one by one.", address: template },
    { client: "QGIS, vector", how: `Layer, Add Layer, Add Vector Tile Layer, New Generic Connection: the URL. Zooms ${zoom_min} to ${zoom_max}.`, address: template },
  ];
}

function raster(
  { raster_tiles: template, raster_shows: shows, zoom_min, zoom_max }: Config,
  { coverage, imagery }: Pick<Mosaic, "coverage" | "imagery">,
): Address[] {
  // of a build without imagery the tile server shows the coverage; of one without either it has no pictures
  const isImagery = shows === "imagery" && imagery !== null;
  if (!template || (!isImagery && coverage === null)) return [];
  const first = isImagery ? 0 : zoom_min;
  return [
    {
      client: "Raster tiles (XYZ)",
      how: isImagery ? "Pictures: the images themselves." : `Pictures: coverage to z${zoom_max}, the images themselves from z${zoom_max + 1}.`,
      address: template,
    },
    { client: "QGIS, raster", how: `Layer, Add Layer, Add XYZ Layer, New: the URL. Zooms ${first} to 22.`, address: template },
    {
      client: "JOSM",
      how: "Imagery, Imagery preferences, +TMS: the generated address.",
      address: `tms[${first},22]:${template.replace("{z}", "{zoom}")}`,
    },
    { client: "iD and Rapid", how: "Background settings, Custom: the template.", address: template },
  ];
}

/** Show them, each with a button that copies it. */
export function showAddresses(where: HTMLElement, mosaic: Mosaic, say: (text: string) => void): void {
  where.replaceChildren(
    ...addresses(mosaic).map(({ client, how, address }) => {
      const text = make("code", {}, address);
      const button = make("button", { type: "button", "aria-label": `Copy the address for ${client}` }, "Copy");
      button.addEventListener("click", () => void copy(address, text, button, `the address for ${client}`, say));
      return make("li", {}, make("h3", {}, client), make("p", {}, how), make("div", { class: "copy" }, text, button));
    }),
    ...missing(mosaic.config),
  );
}

function missing(config: Config): HTMLElement[] {
  if (config.vector_tiles || config.raster_tiles) return [];
  return [make("li", { class: "quiet" }, "No tile server is set up for this mosaic, so there is no XYZ address.")];
}

async function copy(
  address: string, text: HTMLElement, button: HTMLButtonElement, what: string, say: (text: string) => void,
): Promise<void> {
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = "Copied";
    say(`Copied ${what}`);
  } catch {
    // not allowed, or no secure address: marked, to be copied by hand
    getSelection()?.selectAllChildren(text);
    button.textContent = "Marked";
    say(`Could not copy; ${what} is marked, press Control and C`);
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
}
