# Ends a cluster when nobody uses it any more, however its users went, and removes its folder. A user is
# whoever holds a shared lock on the file `users`. $1: the folder; $2: how long, in seconds, somebody may
# still come after the last has gone.
folder=$1
linger=$2
cd / || exit 1
exec 9<"$folder/users" || exit 1
while :; do
  flock 9
  [ "$linger" = 0 ] && break
  flock -u 9
  sleep "$linger"
  flock -n 9 && break
done
# From here on whoever comes finds the lock taken, and starts a cluster of his own.
for pid_file in "$folder"/*.pid; do
  read -r pid <"$pid_file" && kill -TERM "$pid"
done 2>/dev/null
for pid_file in "$folder"/data*/postmaster.pid; do
  read -r pid <"$pid_file" && kill -QUIT "$pid" && while kill -0 "$pid"; do sleep 0.05; done
done 2>/dev/null
rm -rf "$folder"
