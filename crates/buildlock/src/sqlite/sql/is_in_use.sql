select
  exists (select 1 from projects where due_at is not null and build_status = 'processing')
  or exists (select 1 from tickets)
