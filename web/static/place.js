// The run and the transport in the page's address, so that a reload, a second tab or a shared link shows the same run.

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

/** Remove the run from the address; it stays one step back in the history. */
export function leavePlace() {
  if (location.hash) history.pushState(null, '', location.pathname + location.search);
}

/** Write run and transport into the address. A new run adds a step to the history; a new transport doesn't. */
export function writePlace(runId, via) {
  const hash = `#run=${encodeURIComponent(runId)}&via=${via}`;
  if (hash === location.hash) return;
  if (readPlace().runId === runId) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
}
