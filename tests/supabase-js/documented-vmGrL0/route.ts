import { createClient } from "@supabase/supabase-js";
import { locked, withProjectLock } from "./lock.js";

export async function POST(request: Request): Promise<Response> {
  const { projectId } = await request.json();
  // The user's own token: it locks its own projects only.
  const supabase = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_PUBLISHABLE_KEY!, {
    global: { headers: { Authorization: request.headers.get("Authorization")! } },
  });
  try {
    const site = await withProjectLock(supabase, projectId, "generate", async (lease, signal) => {
      return { built: projectId, token: lease.token, stopped: signal.aborted }; // your build
    });
    return Response.json(site);
  } catch (error: any) {
    if (error.code === "PROJECT_LOCKED") return locked(error);
    if (error.code === "PROJECT_NOT_FOUND") return Response.json({ code: error.code }, { status: 404 });
    throw error;
  }
}
