-- The short way of the calls that most are: to lock a project that is free, and to unlock one's own lease, where nothing
-- is due and nobody waits. It does what buildlock.ask_to_lock and buildlock.ask_about_lease do then, but within the
-- public function, since every function that is called costs; and it waits for nobody. Where it leaves no event, it has
-- changed nothing, and the long way is to be gone.
#variable_conflict use_variable
declare
  project     constant text := project_id::text;
  caller_kind text;
  caller_name text;
  asks        text;
  this        record;
  is_plain    boolean;
  now_ms      bigint;
  event       bigint;
  ttl_ms      bigint;
  request     uuid;
  locked_at   timestamptz;
  expires_at  timestamptz;
  answer      buildlock.answer;
begin
  -- As buildlock.caller says of a platform's own server, which most calls are by.
  if current_setting('role') = 'none' and coalesce(current_setting('request.jwt.claims', true), '') = '' then
    caller_kind := 'service';
    caller_name := session_user;
  else
    select caller.kind, caller.name into caller_kind, caller_name from buildlock.caller() as caller;
  end if;
  asks := coalesce(holder, caller_name);
