create table projects (
  id           text primary key,
  build_status text not null default 'idle',
  locked_by    text,
  locked_at    timestamptz
);

insert into projects (id)
select 'caller-' || number
from generate_series(0, 999) as number;
