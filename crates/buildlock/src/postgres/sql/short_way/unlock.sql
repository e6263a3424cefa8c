  if octet_length(project) between 1 and 200
    and token between 1 and 9007199254740991
    and octet_length(asks) between 1 and 200
    and (caller_kind <> 'user' or asks = caller_name)
    and project || asks !~ '[\u0001-\u001f\u007f-\u009f]'
  then
    select
      locks.holder, locks.request, locks.operation, locks.last_event,
      least(locks.claim_by, locks.expires_at) as ends_at
    into this
    from buildlock.locks
    where locks.project = project
      and locks.token = token
      and (locks.holder = asks or holder is null and caller_kind = 'service')
      and locks.queue_length = 0
      and locks.first_event is not null
      and ({adopted} or caller_kind <> 'user' or locks.owner = caller_name)
    for no key update skip locked;
    is_plain := found and (
      not {adopted} or not buildlock.is_hidden(project, caller_kind, caller_name) and buildlock.take_adopted(project)
    );
    if is_plain then
      now_ms := buildlock.now_ms();
      is_plain := this.ends_at > now_ms;
    end if;
    if is_plain then
      event := nextval('buildlock.numbers');
      update buildlock.locks
      set
        holder = null, acquired_at = null, token = null, request = null, operation = null, message = null,
        ttl_ms = null, expires_at = null, claim_by = null, last_event = event
      where locks.project = project;
      insert into buildlock.events (
        id, at, project, kind, holder, request, token, operation, ended_by, previous
      )
      values (
        event, now_ms, project, 'unlocked', this.holder, this.request, token, this.operation, this.holder,
        this.last_event
      );
      if {adopted} then
        perform buildlock.project_changed(project, null, null);
      end if;
    end if;
  end if;
