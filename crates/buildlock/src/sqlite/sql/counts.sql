select
  (select count(*) from projects where due_at is not null and build_status = 'processing'),
  (select count(*) from tickets)
