//! What the help of each command ends with, and its manual page: examples, and how it ends. A line is
//! what is typed, or the exit code, then two spaces or more, then what it means.

pub(crate) const ALL: &str = "\
Examples:
  buildlock run my-site -- npm run build              build under the lock; refuse if it is locked
  buildlock run my-site --wait 10m -- npm run build   wait in line, up to ten minutes
  buildlock status                                    who holds what, and who waits
  buildlock force-unlock my-site --token 57 --reason \"builder is gone\"

Exit codes:
  0         done; run gives the command's own
  1         not found
  2         usage
  69        store or server not reachable
  75        locked (another with -E)
  77        not allowed
  79        lease lost
  124       the wait ran out
  126, 127  the command could not be started
  128+n     it died of signal n";

pub(crate) const RUN: &str = "\
Examples:
  buildlock run my-site -- npm run build                     refuse if it is locked
  buildlock run my-site --wait 10m -- npm run build          wait in line, up to ten minutes
  buildlock run my-site --operation edit -- npm run build    say to others what it is
  buildlock run my-site -- sh -c 'echo $BUILDLOCK_TOKEN'     the token, for what must not overlap

Exit codes:
  0 to 255  the command's own
  2         usage
  69        store or server not reachable
  75        locked (another with -E)
  77        not allowed
  79        the lease was lost while the command ran; it was stopped
  124       the wait ran out
  126, 127  the command could not be started
  128+n     it died of signal n";

pub(crate) const LOCK: &str = "\
Examples:
  TOKEN=$(buildlock lock my-site --ttl 5m)        for a script that is done, or renews, in time
  buildlock lock my-site --wait 10m               wait in line, up to ten minutes
  buildlock lock my-site --request-id deploy-42   repeated, it gives the same lease

Exit codes:
  0    locked
  2    usage
  69   store or server not reachable
  75   locked by somebody else (another with -E)
  77   not allowed
  79   the lease of this request has ended already
  124  the wait ran out
  130  interrupted; the place in the queue is given up";

pub(crate) const RENEW: &str = "\
Examples:
  buildlock renew my-site --token 57            for as long again as it was locked for
  buildlock renew my-site --token 57 --ttl 5m   for five minutes from now on

Exit codes:
  0   renewed
  1   no such project, or a token that was never granted
  2   usage
  69  store or server not reachable
  77  somebody else's lease
  79  the lease has ended: stop what it protects";

pub(crate) const UNLOCK: &str = "\
Examples:
  buildlock unlock my-site --token 57   end one's own lease; the first who waits is granted

Exit codes:
  0   unlocked, now or by a call before
  1   no such project, or a token that was never granted
  2   usage
  69  store or server not reachable
  77  somebody else's lease
  79  the lease has ended otherwise";

pub(crate) const STATUS: &str = "\
Examples:
  buildlock status                   who holds what, and who waits
  buildlock status my-site --watch   one project, whenever it changes
  buildlock status --json            for a script

Exit codes:
  0   shown
  1   no such project
  2   usage
  69  store or server not reachable
  77  not allowed";

pub(crate) const FORCE_UNLOCK: &str = "\
Examples:
  buildlock force-unlock my-site --token 57 --reason \"builder is gone\"   the token is in the status

Exit codes:
  0   that lease has ended; the first who waits is granted
  1   no such project, or a token that was never granted
  2   usage
  69  store or server not reachable
  77  not allowed
  79  that lease had ended already";

pub(crate) const HISTORY: &str = "\
Examples:
  buildlock history my-site -n 10           the newest ten events of a project
  buildlock history --json --before 1000    older events of all projects, for a script
  buildlock history --keep-for 2160h        from now on keep ninety days

Exit codes:
  0   shown
  1   no such project
  2   usage
  69  store or server not reachable
  77  not allowed";

pub(crate) const PROJECTS: &str = "\
Examples:
  buildlock projects                  all of them
  buildlock projects add my-site      add one before it is first locked
  buildlock projects delete my-site   delete one that is idle, and its builds

Exit codes:
  0   done
  1   no such project
  2   usage
  69  store or server not reachable
  75  locked
  77  not allowed";

pub(crate) const KEYS: &str = "\
Examples:
  buildlock keys add ana --role user      a key for a user, who sees and locks her own projects
  buildlock keys add app --role service   one for a platform's backend, which locks for its users
  buildlock keys list                     whose there are
  buildlock keys revoke 1                 for ever; a server refuses it within a second

Exit codes:
  0   done
  1   no such key
  2   usage
  69  the store's file cannot be used";

pub(crate) const SERVE: &str = "\
Examples:
  buildlock serve                           on 127.0.0.1:7878; prints a link to sign in
  buildlock serve --config buildlock.toml   with one's own builders
  buildlock serve --listen 127.0.0.1:8080   somewhere else
  buildlock serve --store postgres://…      one of many servers over one database

Environment:
  BUILDLOCK_OPERATOR_KEY   an operator's key of one's own, at least 32 characters; then none is made

Exit codes:
  0   stopped as it was told
  2   usage, or settings that are not understood
  69  the store cannot be used, or another server has the file";

pub(crate) const SIGN_IN: &str = "\
Examples:
  buildlock sign-in                                    to the server that stands on this store
  buildlock sign-in --store https://locks.example.com  to another, with an operator's BUILDLOCK_API_KEY

Exit codes:
  0   the link is printed: it works once, for a quarter of an hour
  69  no server stands on this store, or it cannot be reached
  77  the key is not an operator's";

pub(crate) const MIGRATE: &str = "\
Examples:
  buildlock migrate                                   make the store, or bring it up to this version
  buildlock migrate --print                           the SQL of it
  buildlock migrate --adopt public.projects --print   the same for PostgreSQL and a table of yours
  buildlock migrate --down --print                    the SQL that takes buildlock out of PostgreSQL

With --store postgres://… it is applied. Without --store, what is printed may be kept by Supabase's own
command: put it into supabase/migrations/$(date -u +%Y%m%d%H%M%S)_buildlock.sql, and supabase db push.

Exit codes:
  0   the store is at this version
  2   usage
  69  the store cannot be used, or is newer: it is left as it was";

pub(crate) const DOCTOR: &str = "\
Examples:
  buildlock doctor          each check on a line, with what to do
  buildlock doctor --json   for a monitor
  buildlock --store postgres://buildlock@db.example.com/buildlock doctor

Of a database it finds out more, also where that cannot be opened. In the folder of a Supabase
project it looks at the database of `supabase start` too.

Exit codes:
  0   nothing is wrong, though there may be warnings
  2   usage
  69  a check failed, or the store is not reachable";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  buildlock completions bash > buildlock.bash   for ~/.local/share/bash-completion/completions
  buildlock completions zsh > _buildlock        for a folder in $fpath
  buildlock completions fish > buildlock.fish   for ~/.config/fish/completions";

pub(crate) const MAN: &str = "\
Examples:
  buildlock man --to .   a page for each command, for ~/.local/share/man/man1
  buildlock man          this one";

/// The parts of such a text: what each is called, and its lines.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)>)> {
    text.split("\n\n").filter_map(|part| {
        let (title, lines) = part.split_once(":\n")?;
        Some((title, lines.lines().map(|line| entry(line.trim()))))
    })
}

fn entry(line: &str) -> (&str, &str) {
    line.split_once("  ").map_or((line, ""), |(what, means)| (what, means.trim_start()))
}
