select buildlock.revoke_key($1, $2)
