//! `doctor`: the store itself.

use std::fs;
use std::path::Path;

use buildlock::{Finding, Verdict, postgres};
use serde::Serialize;

use super::{print_json, print_line};
use crate::cli::Global;
use crate::exit::Failure;
use crate::place;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckupJson<'a> {
    store: &'a str,
    findings: &'a [Finding],
    /// The database of `supabase start`, where the working folder is a Supabase project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_supabase: Option<LocalJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LocalJson<'a> {
    store: &'a str,
    findings: &'a [Finding],
}

pub(crate) async fn doctor(global: &Global) -> Result<(), Failure> {
    let url = place::store_url(global)?;
    let findings = if place::is_database(&url) {
        // Also one that cannot be opened.
        let holder = place::holder_of_database(global)?;
        let mut findings = vec![Finding::good("holder", format!("others see you as {holder}"))];
        findings.extend(postgres::checkup(&url).await?);
        findings
    } else {
        let store = place::open(global).await?;
        let holder = place::holder(global, &*store)?;
        let mut findings = vec![Finding::good("holder", format!("others see you as {holder}"))];
        findings.extend(store.checkup().await?);
        findings
    };
    let local = match local_supabase().filter(|local| *local != url) {
        Some(local) => {
            let findings = postgres::checkup(&local).await?;
            Some((local, findings))
        }
        None => None,
    };
    let shown = postgres::shown_url(&url);
    if global.json {
        let local_supabase = local.as_ref().map(|(store, findings)| LocalJson { store, findings });
        print_json(&CheckupJson { store: &shown, findings: &findings, local_supabase })?;
    } else {
        print_line(&format!("store {shown}\n"))?;
        findings.iter().try_for_each(print)?;
        if let Some((store, findings)) = &local {
            print_line(&format!("\nthe local Supabase {}\n", postgres::shown_url(store)))?;
            findings.iter().try_for_each(print)?;
        }
    }
    // A local Supabase that is not up is nobody's trouble who did not ask for it.
    match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        bad => Err(Failure::new(69, "STORE_UNAVAILABLE", format!("{bad} of {} checks failed", findings.len()))),
    }
}

fn print(Finding { what, verdict, detail, advice }: &Finding) -> Result<(), Failure> {
    let mark = match verdict {
        Verdict::Good => "ok  ",
        Verdict::Warning => "warn",
        Verdict::Bad => "BAD ",
    };
    print_line(&format!("{mark}  {what}: {detail}"))?;
    match advice {
        Some(advice) => print_line(&format!("      {advice}")),
        None => Ok(()),
    }
}

/// Where `supabase start` has its database, if the working folder is a Supabase project's.
fn local_supabase() -> Option<String> {
    const PORT: u16 = 54322;
    let config = fs::read_to_string(Path::new("supabase/config.toml")).ok()?;
    let mut section = "";
    let port = config.lines().map(str::trim).find_map(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let (key, value) = line.split_once('=')?;
        let value = value.split('#').next().unwrap_or_default();
        if section == "[db]" && key.trim() == "port" { value.trim().parse().ok() } else { None }
    });
    Some(format!("postgresql://postgres:postgres@127.0.0.1:{}/postgres", port.unwrap_or(PORT)))
}
