update tickets
set alive_until = ?3
where project = ?1 and number = ?2
