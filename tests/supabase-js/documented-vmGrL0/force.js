export async function forceUnlock(supabase, project_id, reason) {
    const { data: lock } = await supabase.rpc("get_project_lock", { project_id }).throwOnError();
    if (!lock.locked)
        return;
    await supabase.rpc("force_unlock_project", { project_id, token: lock.token, reason }).throwOnError();
}
