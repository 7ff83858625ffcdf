// What a request asks for, worked out by nginx (njs) for each request from what its address names: `z`, `x`, `y`, `tms`
// where rows are counted from the south, and the zooms `first` to `last` of what is served.

function row(r) {
  const v = r.variables;
  return v.tms ? Math.pow(2, Number(v.z)) - 1 - Number(v.y) : Number(v.y);
}

// The tile as `z/x/y`, rows counted from the north; empty where there can be no such tile.
function tile(r) {
  const v = r.variables;
  const z = Number(v.z);
  const x = Number(v.x);
  const y = row(r);
  const side = Math.pow(2, z);
  const exists = z >= Number(v.first) && z <= Number(v.last) && x < side && y >= 0 && y < side;
  return exists ? `${z}/${x}/${y}` : "";
}

// For paths with a dollar sign: where nginx looks for variables, it has no other way to write one.
function dollar() {
  return "$";
}

export default { row, tile, dollar };
