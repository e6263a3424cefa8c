import type { PostgrestError, SupabaseClient } from "@supabase/supabase-js";

type Lease = { project_id: string; token: number; expires_at: string };

const TTL = 60; // seconds

/** Runs `build` under the project's lock. When `signal` tells it, the lease is lost: the build must stop. */
export async function withProjectLock<T>(
  supabase: SupabaseClient,
  project_id: string,
  operation: string,
  build: (lease: Lease, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let asked = performance.now();
  const { data: lease, error } = await supabase
    .rpc("lock_project", { project_id, operation, ttl_seconds: TTL })
    .single<Lease>();
  if (error) throw error; // error.code is PROJECT_LOCKED if somebody else builds

  const held = { project_id, token: lease.token };
  const lost = new AbortController();
  // Counted from before it was asked for, a lease is never thought to last longer than it does.
  const end = () => setTimeout(() => lost.abort(), asked + (TTL - 10) * 1000 - performance.now());
  let ends = end();
  const heartbeat = setInterval(async () => {
    const asking = performance.now();
    const { error } = await supabase.rpc("renew_project_lock", held);
    if (error?.code === "LEASE_LOST") lost.abort();
    if (error) return; // once more, before it ends
    asked = asking;
    clearTimeout(ends);
    ends = end();
  }, (TTL / 3) * 1000);

  try {
    return await build(lease, lost.signal);
  } finally {
    clearInterval(heartbeat);
    clearTimeout(ends);
    await supabase.rpc("unlock_project", held);
  }
}

/** The answer to a browser, where somebody else builds. */
export function locked(error: PostgrestError): Response {
  const { lock, retryAfter } = JSON.parse(error.details);
  return Response.json(
    { code: error.code, message: `${lock.holder} has been at it since ${lock.lockedAt}`, lock },
    { status: 409, headers: { "Retry-After": String(retryAfter) } },
  );
}
