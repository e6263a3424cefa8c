select buildlock.create_project($1, $2, $3)
