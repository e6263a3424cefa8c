select buildlock.set_retention($1, $2)::text
