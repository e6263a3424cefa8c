select buildlock.lose_build($1, $2, $3)
