select buildlock.settle_due($1, $2)
