  -- At a glance: whatever passes this passes the checks of the long way.
  if octet_length(project) between 1 and 200
    and octet_length(operation) between 1 and 64
    and octet_length(message) <= 500
    and ttl_seconds between 1 and 86400
    and octet_length(asks) between 1 and 200
    and (caller_kind <> 'user' or asks = caller_name)
    and project || operation || message || asks !~ '[\u0001-\u001f\u007f-\u009f]'
  then
    ttl_ms := trunc(ttl_seconds * 1000);
    request := coalesce(request_id, gen_random_uuid());
    -- The row is locked first. That gives the transaction its own number before an event has one:
    -- buildlock.events_after tells by it whether an event that is missing may yet come. And whatever the row says has
    -- been by the time that is read then.
    select locks.last_event into this
    from buildlock.locks
    where locks.project = project
      and locks.token is null
      and locks.queue_length = 0
      and locks.first_event is not null
      and ({adopted} or caller_kind <> 'user' or locks.owner = caller_name)
    for no key update skip locked;
    is_plain := found and (
      not {adopted} or not buildlock.is_hidden(project, caller_kind, caller_name) and buildlock.take_adopted(project)
    );
    if is_plain and request_id is not null then
      is_plain := not exists (
        select
        from buildlock.events
        where events.request = request_id
          and events.kind = 'granted'
          and events.project = project
      );
    end if;
    if is_plain then
      now_ms := buildlock.now_ms();
      event := nextval('buildlock.numbers');
      update buildlock.locks
      set
        holder = asks, acquired_at = now_ms, token = event, request = request, operation = operation,
        message = message, ttl_ms = ttl_ms, expires_at = now_ms + ttl_ms,
        due_at = least(locks.due_at, now_ms + ttl_ms), last_event = event
      where locks.project = project;
      insert into buildlock.events (id, at, project, kind, holder, request, token, operation, message, previous)
      values (event, now_ms, project, 'granted', asks, request, event, operation, message, this.last_event);
      locked_at := to_timestamp(now_ms / 1000::double precision);
      expires_at := to_timestamp((now_ms + ttl_ms) / 1000::double precision);
      if {adopted} then
        perform buildlock.project_changed(project, asks, now_ms);
      end if;
    end if;
  end if;
