insert into build_log (build, number, at, stream, text)
values (?1, ?2, ?3, ?4, ?5)
