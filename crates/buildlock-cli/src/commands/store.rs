//! `doctor`: the store itself.

use buildlock::{Finding, Verdict};
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
}

pub(crate) async fn doctor(global: &Global) -> Result<(), Failure> {
    let url = place::store_url(global)?;
    let store = place::open(global).await?;
    let holder = place::holder(global, &*store)?;
    let mut findings = vec![Finding::good("holder", format!("others see you as {holder}"))];
    findings.extend(store.checkup().await?);
    if global.json {
        print_json(&CheckupJson { store: &url, findings: &findings })?;
    } else {
        print_line(&format!("store {url}\n"))?;
        for Finding { what, verdict, detail, advice } in &findings {
            let mark = match verdict {
                Verdict::Good => "ok  ",
                Verdict::Warning => "warn",
                Verdict::Bad => "BAD ",
            };
            print_line(&format!("{mark}  {what}: {detail}"))?;
            if let Some(advice) = advice {
                print_line(&format!("      {advice}"))?;
            }
        }
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        bad => Err(Failure::new(69, "STORE_UNAVAILABLE", format!("{bad} of {} checks failed", findings.len()))),
    }
}
