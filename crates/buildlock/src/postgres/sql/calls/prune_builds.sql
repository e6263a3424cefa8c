select buildlock.prune_builds($1, $2, $3, $4, $5)
