-- That a lease is all there or not at all was checked on every write; the check cost an eighth of what a call costs, since
-- PostgreSQL reads the text of it anew for every statement. All that writes here are buildlock's own functions, and
-- buildlock doctor looks.
alter table buildlock.locks drop constraint locks_check;

-- Its work is done by the public functions themselves, and by buildlock.decide.
drop function if exists buildlock.decide_plainly(bigint, text, text, uuid, bigint, text, text, text, bigint);
