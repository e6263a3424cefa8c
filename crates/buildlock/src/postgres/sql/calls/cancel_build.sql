select buildlock.cancel_build($1, $2)
