//! Opens the file: refuses what must not be touched, makes or upgrades what is buildlock's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension, params};

use super::clock::{Clock, ClockRecord};
use super::columns::is_nonsense;
use crate::StoreError;

/// Marks a SQLite file as buildlock's: "blck".
const APPLICATION_ID: i64 = 0x626c_636b;

/// The migrations, in order. A file's `user_version` is how many of them it has had.
const MIGRATIONS: &[&str] =
    &[include_str!("sql/0001_locks.sql"), include_str!("sql/0002_builds.sql"), include_str!("sql/0003_replaced.sql")];

/// The newest version of the file that this program knows.
pub(crate) const VERSION: u32 = MIGRATIONS.len() as u32;

/// The migrations as one script, as `buildlock migrate --print` shows it.
pub fn migrations() -> String {
    MIGRATIONS.join("\n")
}

/// How long to wait for another process to finish its transaction. A transaction takes
/// milliseconds; one that takes this long is stuck or stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many pages (of 4 KiB) the log has before it is folded into the file. Whoever opens the file first
/// after a crash reads them all, so there must not be many.
const LOG_PAGES: u32 = 4_000;

/// How many pages SQLite keeps in memory at most: 64 MiB, for a file with a million projects in use.
const CACHE_PAGES: u32 = 16_384;

/// Opens the store's file, made and upgraded if need be.
pub(super) fn open(path: &Path, clock: &dyn Clock) -> Result<Connection, StoreError> {
    refuse_network_drive(path)?;
    refuse_other_files(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    let told = |error| store_error(path, &error);
    // SQLite opens a file that it may not write for reading.
    if connection.is_readonly(MAIN_DB).map_err(told)? {
        return Err(may_not_write(path));
    }
    configure(&mut connection).map_err(told)?;
    // Nothing is written so far, nor when this is closed now: what is not buildlock's stays as it is.
    keep_log(&connection).map_err(told)?;
    check_owner(path, &connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(told)?;
    enter_wal_mode(path, &connection)?;
    migrate(path, &connection, clock)?;
    write_ahead(&connection).map_err(told)?;
    Ok(connection)
}

fn configure(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_others))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.pragma_update(None, "synchronous", "full")
}

/// From here on `durable.rs` waits for the disk, and the log is folded into the file less often: most
/// of what a busy store writes to its pages it writes over again soon.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "cache_size", CACHE_PAGES)
}

/// Has SQLite leave a log alone on closing that its program did not finish. (One without content it
/// made itself, and removes.)
fn keep_log(connection: &Connection) -> rusqlite::Result<()> {
    let log = connection.path().map(|path| format!("{path}-wal"));
    let is_unfinished = log.is_some_and(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0));
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_unfinished).map(drop)
}

fn check_owner(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let (application_id, version, tables) = (|| {
        // All from one moment: another process may be making the store right now.
        let _snapshot = connection.unchecked_transaction()?;
        rusqlite::Result::Ok((
            connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))?,
            version(connection)?,
            connection.query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0))?,
        ))
    })()
    .map_err(|error| store_error(path, &error))?;
    let path = path.to_owned();
    match application_id {
        APPLICATION_ID if version > VERSION.into() => {
            Err(StoreError::NewerVersion { path, found: version, known: VERSION.into() })
        }
        APPLICATION_ID => Ok(()),
        0 if tables == 0 => Ok(()),
        _ => Err(StoreError::NotAStore { path, problem: "it is a SQLite database of another program".to_owned() }),
    }
}

fn enter_wal_mode(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    // SQLite does not call the busy handler for a change of the journal's mode.
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                let problem = format!("its file system allows only the journal mode {mode}; put it on another");
                return Err(StoreError::CannotOpen { path: path.to_owned(), problem });
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(store_error(path, &error)),
        }
    }
}

fn migrate(path: &Path, connection: &Connection, clock: &dyn Clock) -> Result<(), StoreError> {
    let in_transaction = || {
        connection.execute_batch("begin immediate")?;
        let version = version(connection)?;
        for migration in MIGRATIONS.iter().skip(version.unsigned_abs() as usize) {
            connection.execute_batch(migration)?;
        }
        if version < VERSION.into() {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        set_clock(connection, clock)?;
        connection.execute_batch("commit")
    };
    in_transaction().map_err(|error| {
        // The first error is the one to tell; a rollback that fails as well changes nothing.
        let _ = connection.execute_batch("rollback");
        store_error(path, &error)
    })
}

/// Sets the store's clock for this boot. A clock that was wrong when the file was made is put right
/// once nobody counts on it: nothing is held and nobody waits.
fn set_clock(connection: &Connection, clock: &dyn Clock) -> rusqlite::Result<()> {
    let kept = connection
        .query_row(include_str!("sql/load_store.sql"), [], |row| {
            Ok(ClockRecord {
                boot_id: row.get(0)?,
                offset_ms: row.get(1)?,
                wall_ahead_ms: row.get(2)?,
                latest_ms: row.get(3)?,
            })
        })
        .optional()?;
    let record = match &kept {
        None => ClockRecord::new(clock),
        Some(kept) => {
            let record = kept.clone().for_this_boot(clock);
            let is_wrong = record.wall_ahead_ms(clock).abs() > 1_000;
            let is_in_use = || connection.query_row(include_str!("sql/is_in_use.sql"), [], |row| row.get::<_, bool>(0));
            if is_wrong && !is_in_use()? { ClockRecord::new(clock) } else { record }
        }
    };
    if kept.as_ref() != Some(&record) {
        let ClockRecord { boot_id, offset_ms, wall_ahead_ms, latest_ms } = record;
        let values = params![boot_id, offset_ms, wall_ahead_ms, latest_ms];
        connection.execute(include_str!("sql/set_clock.sql"), values)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// SQLite's busy handler: other processes hold the file for a fraction of a millisecond as a rule.
fn wait_for_others(tries: i32) -> bool {
    let nap = if tries < 20 { Duration::from_micros(100) } else { Duration::from_millis(1) };
    thread::sleep(nap);
    u128::from(tries.unsigned_abs()) < PATIENCE.as_millis()
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = if path.is_dir() {
        "it is a folder; name a file in it".to_owned()
    } else if !folder.is_dir() {
        format!("there is no folder {}; make it first", folder.display())
    } else if fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o222 == 0)
        || error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
    {
        format!("this user may not write it in {}; check the permissions or choose another place", folder.display())
    } else {
        error.to_string()
    };
    StoreError::CannotOpen { path: path.to_owned(), problem }
}

fn may_not_write(path: &Path) -> StoreError {
    let problem = "this user may not write the file or its folder; check the permissions".to_owned();
    StoreError::CannotOpen { path: path.to_owned(), problem }
}

fn not_sqlite(path: &Path) -> StoreError {
    StoreError::NotAStore { path: path.to_owned(), problem: "it is not a SQLite file".to_owned() }
}

/// What an error of SQLite means to the store's user.
pub(super) fn store_error(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => corrupt(path, error),
        Some(ErrorCode::NotADatabase) => not_sqlite(path),
        Some(ErrorCode::CannotOpen) => cannot_open(path, error),
        Some(ErrorCode::ReadOnly) => may_not_write(path),
        None if is_nonsense(error) => corrupt(path, error),
        code => StoreError::Unavailable { path: path.to_owned(), problem: unavailable(path, code, error) },
    }
}

fn corrupt(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), detail: error.to_string() }
}

fn unavailable(path: &Path, code: Option<ErrorCode>, error: &rusqlite::Error) -> String {
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another process has kept it locked for {} s; find it with: fuser -v FILE", PATIENCE.as_secs())
        }
        // The index of the log is a file as well; where it finds no space SQLite only says "I/O error".
        Some(ErrorCode::DiskFull) => FULL.to_owned(),
        Some(ErrorCode::SystemIoFailure) if has_no_space(path) => FULL.to_owned(),
        _ => error.to_string(),
    }
}

const FULL: &str = "the disk is full; nothing was changed: free some space and try again";

fn has_no_space(path: &Path) -> bool {
    const INDEX_BYTES: u64 = 32 << 10;
    rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < INDEX_BYTES)
}

/// SQLite takes a file of one byte for an empty one, and would write over it. Only its size is looked at: to
/// open the file here and close it would take SQLite's locks on it from this whole process.
fn refuse_other_files(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() == 1 => Err(not_sqlite(path)),
        // What cannot be read is told by SQLite.
        _ => Ok(()),
    }
}

fn refuse_network_drive(path: &Path) -> Result<(), StoreError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    let (Ok(metadata), Ok(mounts)) = (fs::metadata(existing), fs::read_to_string("/proc/self/mountinfo")) else {
        return Ok(());
    };
    let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    match file_system(&mounts, device) {
        Some(file_system) if is_network(file_system) => {
            Err(StoreError::NetworkDrive { path: PathBuf::from(path), file_system: file_system.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The type of the file system on a device, from the text of /proc/self/mountinfo: "… MAJOR:MINOR …
/// - TYPE …" (proc_pid_mountinfo(5)).
fn file_system(mounts: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let device = format!("{major}:{minor}");
    mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device)).and_then(|line| {
        let (_, after) = line.split_once(" - ")?;
        after.split(' ').next()
    })
}

fn is_network(file_system: &str) -> bool {
    const NETWORK: &[&str] = &[
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "9p",
        "afs",
        "ceph",
        "coda",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "ocfs2",
        "gfs2",
        "davfs",
    ];
    match file_system.strip_prefix("fuse.") {
        Some(kind) => {
            ["sshfs", "rclone", "s3fs", "gcsfuse", "goofys", "davfs2", "curlftpfs"].contains(&kind) || is_network(kind)
        }
        None => NETWORK.contains(&file_system),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_drive_is_told_from_a_local_one() {
        let mounts = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:45 / /mnt/team rw,relatime shared:9 - nfs4 files:/team rw,vers=4.2
31 21 0:46 / /mnt/far rw,nosuid - fuse.sshfs me@far: rw,user_id=0
32 21 0:47 / /mnt/odd\\040name rw - tmpfs tmpfs rw
";
        let kind = |device| file_system(mounts, device).map(is_network);
        assert_eq!(kind((254, 0)), Some(false));
        assert_eq!(kind((0, 45)), Some(true));
        assert_eq!(kind((0, 46)), Some(true));
        assert_eq!(kind((0, 47)), Some(false));
        assert_eq!(kind((9, 9)), None);
    }
}
