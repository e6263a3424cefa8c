// The SQL functions as a platform's own code calls them: the real supabase-js, over HTTP, through a server that is
// compatible with PostgREST. Where that one differs from PostgREST, PostgREST's documentation decides.
//
// crates/buildlock/tests/supabase_js.rs starts the database and the server, and tells where they are.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import ts from "typescript";

const { API_URL, JWT_SECRET, ANA, BO, PROJECT } = process.env;

/** A Supabase access token. */
function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const unsigned = `${part({ alg: "HS256", typ: "JWT" })}.${part({ aud: "authenticated", exp, ...claims })}`;
  return `${unsigned}.${createHmac("sha256", JWT_SECRET).update(unsigned).digest("base64url")}`;
}

/** The last answer's headers, which supabase-js does not show. */
let headers;

function client(claims) {
  const key = token(claims);
  return createClient(API_URL, key, {
    accessToken: async () => key,
    auth: { persistSession: false, autoRefreshToken: false },
    // Nothing is listened to; Node 20 has no WebSocket of its own.
    realtime: { transport: class {} },
    global: {
      // Supabase's gateway has PostgREST under /rest/v1.
      fetch: async (input, init) => {
        const answer = await fetch(String(input).replace("/rest/v1/", "/"), init);
        headers = answer.headers;
        return answer;
      },
    },
  });
}

const ana = client({ sub: ANA, role: "authenticated" });
const bo = client({ sub: BO, role: "authenticated" });
const operator = client({ sub: BO, role: "authenticated", app_metadata: { buildlock_role: "operator" } });
const service = client({ role: "service_role" });
const visitor = client({ role: "anon" });

/** The value, where there must be one. */
async function got(call) {
  const { data, error, status } = await call;
  assert.equal(error, null, JSON.stringify(error));
  assert.equal(status, 200);
  return data;
}

/** How a call is refused. */
async function refused(call, status, code) {
  const { data, error, status: got } = await call;
  assert.equal(data, null);
  assert.deepEqual([got, error.code], [status, code], JSON.stringify(error));
  return { ...error, details: JSON.parse(error.details) };
}

const project = { project_id: PROJECT };

test("lock, locked again, renew, verify, unlock", async () => {
  const lease = await got(ana.rpc("lock_project", { ...project, operation: "edit", message: "header", ttl_seconds: 20 }));
  assert.equal(lease.project_id, PROJECT);
  assert.equal(lease.holder, ANA);
  assert.equal(lease.ttl_seconds, 20);
  assert.equal(typeof lease.token, "number");
  assert.ok(Date.parse(lease.expires_at) > Date.parse(lease.acquired_at));

  const row = await got(ana.from("projects").select("build_status, locked_by, locked_at").eq("id", PROJECT).single());
  assert.deepEqual([row.build_status, row.locked_by], ["processing", ANA]);
  assert.equal(Date.parse(row.locked_at), Date.parse(lease.acquired_at));

  const { error, status } = await ana.rpc("lock_project", project);
  assert.equal(status, 409);
  assert.equal(error.code, "PROJECT_LOCKED");
  assert.match(error.message, /busy/);
  const { lock, retryAfter } = JSON.parse(error.details);
  assert.deepEqual([lock.holder, lock.operation, lock.message, lock.token], [ANA, "edit", "header", lease.token]);
  assert.equal(headers.get("retry-after"), "20");
  assert.equal(retryAfter, 20);

  const tried = await got(ana.rpc("try_lock_project", project));
  assert.deepEqual([tried.locked, tried.mine, tried.token], [true, false, lease.token]);

  const held = { ...project, token: lease.token };
  assert.equal((await got(ana.rpc("renew_project_lock", { ...held, ttl_seconds: 60 }))).token, lease.token);
  assert.equal((await got(ana.rpc("verify_project_lock", held))).holder, ANA);
  assert.equal((await got(ana.rpc("unlock_project", held))).how, "unlocked");
  assert.equal((await got(ana.rpc("unlock_project", held))).how, "unlocked");
  const lost = await refused(ana.rpc("verify_project_lock", held), 410, "LEASE_LOST");
  assert.equal(lost.details.lease.how, "unlocked");
  assert.equal(await got(ana.rpc("is_project_locked", project)), false);
});

test("to look may be a GET", async () => {
  assert.equal(await got(ana.rpc("is_project_locked", project, { get: true })), false);
  assert.equal((await got(ana.rpc("get_project_lock", project, { get: true }))).locked, false);
});

test("somebody else's project is as one that is not there", async () => {
  const lease = await got(ana.rpc("lock_project", project));
  const held = { ...project, token: lease.token };
  await refused(bo.rpc("lock_project", project), 404, "PROJECT_NOT_FOUND");
  await refused(bo.rpc("is_project_locked", project), 404, "PROJECT_NOT_FOUND");
  await refused(bo.rpc("unlock_project", held), 404, "PROJECT_NOT_FOUND");
  await refused(bo.rpc("force_unlock_project", { ...held, reason: "mine" }), 404, "PROJECT_NOT_FOUND");
  const { error, status } = await visitor.rpc("lock_project", project);
  assert.deepEqual([status, error.code], [401, "42501"]);
  await got(ana.rpc("unlock_project", held));
});

test("force unlock by the owner, by an operator and by the service, with the token that was seen", async () => {
  for (const [caller, by] of [[ana, ANA], [operator, BO], [service, "service_role"]]) {
    const lease = await got(service.rpc("lock_project", { ...project, holder: "worker-7" }));
    const seen = await got(caller.rpc("get_project_lock", project));
    assert.equal(seen.token, lease.token);
    const force = { ...project, token: seen.token, reason: "it hangs" };
    const ended = await got(caller.rpc("force_unlock_project", force));
    assert.deepEqual([ended.how, ended.ended_by, ended.reason], ["force_unlocked", by, "it hangs"]);
    const lost = await refused(caller.rpc("force_unlock_project", force), 410, "LEASE_LOST");
    assert.deepEqual([lost.details.lease.by, lost.details.lease.reason], [by, "it hangs"]);
  }
});

test("the lock's columns are not the browser's to write", async () => {
  const lease = await got(ana.rpc("lock_project", project));
  const { error, status } = await ana.from("projects").update({ build_status: "idle" }).eq("id", PROJECT);
  assert.deepEqual([status, error.code], [403, "FORBIDDEN"]);
  const renamed = await ana.from("projects").update({ name: "Cakes" }).eq("id", PROJECT).select("name").single();
  assert.equal(renamed.data?.name, "Cakes", JSON.stringify(renamed.error));
  await got(ana.rpc("unlock_project", { ...project, token: lease.token }));
});

test("nonsense is named", async () => {
  const { details } = await refused(ana.rpc("lock_project", { ...project, ttl_seconds: 0 }), 422, "INVALID_REQUEST");
  assert.deepEqual(details, { field: "ttl_seconds", allowed: "1 to 86400" });
});

test("the schema buildlock is not served", async () => {
  const { error } = await service.schema("buildlock").from("locks").select();
  assert.ok(error, "the lock's tables were read");
});

/** The TypeScript of docs/supabase.md, checked, and made into modules beside this one, where supabase-js is found. */
async function documented() {
  const text = readFileSync(new URL("../../docs/supabase.md", import.meta.url), "utf8");
  const blocks = [...text.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]);
  const folder = mkdtempSync(join(import.meta.dirname, "documented-"));
  try {
    const files = ["lock", "route", "force"].map((name, index) => {
      writeFileSync(join(folder, `${name}.ts`), blocks[index]);
      return join(folder, `${name}.ts`);
    });
    assert.equal(blocks.length, files.length);
    const options = {
      strict: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
      skipLibCheck: true,
      types: [],
    };
    writeFileSync(join(folder, "env.d.ts"), "declare const process: { env: Record<string, string | undefined> };");
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    const program = ts.createProgram([...files, join(folder, "env.d.ts")], options);
    const { diagnostics } = program.emit();
    const problems = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
    const messages = problems.map((problem) => ts.flattenDiagnosticMessageText(problem.messageText, "\n"));
    assert.deepEqual(messages, []);
    const [lock, force] = await Promise.all([import(join(folder, "lock.js")), import(join(folder, "force.js"))]);
    return { ...lock, ...force };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("what the documentation shows", async () => {
  const { withProjectLock, locked, forceUnlock } = await documented();
  const made = await withProjectLock(ana, PROJECT, "generate", async (lease, signal) => {
    assert.equal(signal.aborted, false);
    const again = withProjectLock(ana, PROJECT, "edit", async () => assert.fail("two at once"));
    const error = await again.then(() => null, (error) => error);
    assert.equal(error.code, "PROJECT_LOCKED");
    const answer = locked(error);
    assert.equal(answer.status, 409);
    assert.equal(answer.headers.get("retry-after"), "30");
    assert.equal((await answer.json()).lock.holder, ANA);
    return lease.token;
  });
  assert.equal(typeof made, "number");
  assert.equal(await got(ana.rpc("is_project_locked", project)), false);
  await assert.rejects(
    withProjectLock(ana, PROJECT, "generate", async () => {
      await forceUnlock(ana, PROJECT, "it hangs");
      throw new Error("the build failed");
    }),
    /the build failed/,
  );
  assert.equal(await got(ana.rpc("is_project_locked", project)), false);
});
