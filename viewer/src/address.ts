// The page's address keeps what is looked at: #map=zoom/latitude/longitude&layer=coverage&image=id. MapLibre keeps the
// first part.

export type Name = "image" | "layer";

export function inAddress(name: Name): string | null {
  const part = parts().find((each) => each.startsWith(`${name}=`));
  if (!part) return null;
  try {
    return decodeURIComponent(part.slice(name.length + 1)) || null;
  } catch {
    return null;
  }
}

export function keepInAddress(name: Name, value: string | null): void {
  const kept = parts().filter((each) => !each.startsWith(`${name}=`));
  if (value !== null) kept.push(`${name}=${encodeURIComponent(value)}`);
  history.replaceState(history.state, "", kept.length ? `#${kept.join("&")}` : location.pathname + location.search);
}

const parts = (): string[] => location.hash.slice(1).split("&").filter(Boolean);
