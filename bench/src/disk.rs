//! The disk that the benchmarks use: a folder of their own on it, and what a durable commit costs.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::fdatasync;
use tempfile::TempDir;

use crate::load::Times;

/// A page of SQLite's.
const PAGE: usize = 4096;

/// After so many pages the store begins to write its log from the start again.
const LOG_PAGES: u64 = 4_000;

/// Where a benchmark keeps its files.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// A temporary folder in `parent`, which is made if need be.
    pub(crate) fn at(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
        Ok(Self { folder: TempDir::with_prefix_in("bench-", parent)? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A fresh folder in it.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(self.path())?)
    }

    /// The type of its file system, such as `ext4`.
    pub(crate) fn file_system(&self) -> Result<String> {
        let device = fs::metadata(self.path())?.dev();
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        // "… MAJOR:MINOR … - TYPE …": proc_pid_mountinfo(5).
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
        let kind = mount.and_then(|mount| mount.split_once(" - ")?.1.split(' ').next());
        Ok(kind.unwrap_or("of an unknown type").to_owned())
    }

    /// What one durable commit costs at the least: to write a page to the end of a log, and
    /// fdatasync. As SQLite does it, the log is written over once it has reached its length.
    pub(crate) fn durable_commit(&self, lasting: Duration) -> Result<Times> {
        let file = File::create(self.path().join("log"))?;
        file.write_all_at(&vec![1; PAGE * LOG_PAGES as usize], 0)?;
        fdatasync(&file)?;
        let page = [2; PAGE];
        let mut times = Times::default();
        let started = Instant::now();
        for number in 0.. {
            if started.elapsed() >= lasting {
                break;
            }
            let begun = Instant::now();
            file.write_all_at(&page, number % LOG_PAGES * PAGE as u64)?;
            fdatasync(&file)?;
            times.add(begun.elapsed());
        }
        Ok(times)
    }
}
