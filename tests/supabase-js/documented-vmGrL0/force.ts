import type { SupabaseClient } from "@supabase/supabase-js";

export async function forceUnlock(supabase: SupabaseClient, project_id: string, reason: string) {
  const { data: lock } = await supabase.rpc("get_project_lock", { project_id }).throwOnError();
  if (!lock.locked) return;
  await supabase.rpc("force_unlock_project", { project_id, token: lock.token, reason }).throwOnError();
}
