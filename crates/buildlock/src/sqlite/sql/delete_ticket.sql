delete from tickets
where project = ?1 and number = ?2
