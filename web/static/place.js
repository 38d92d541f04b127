// Where the page is: the run and the transport, kept in the address, so that a reload, a second tab or whoever is
// sent the link sees the same run.

/** @returns {{runId: string | null, via: 'sse' | 'ws' | null}} */
export function readPlace(hash = location.hash) {
  const parts = new URLSearchParams(hash.slice(1));
  const runId = parts.get('run') ?? '';
  const via = parts.get('via');
  return {
    runId: /^[\w-]{1,128}$/.test(runId) ? runId : null,
    via: via === 'sse' || via === 'ws' ? via : null,
  };
}

/** Leaves the place of another run, which stays one step back in the history. */
export function leavePlace() {
  if (location.hash) history.pushState(null, '', location.pathname + location.search);
}

/** Writes the place into the address. A new run is a new step of the history, a new transport is not. */
export function writePlace(runId, via) {
  const hash = `#run=${encodeURIComponent(runId)}&via=${via}`;
  if (hash === location.hash) return;
  if (readPlace().runId === runId) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
}
