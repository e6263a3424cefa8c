//! An operator ends a lease; who did it and why is in the history.

use buildlock::{Command, LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;
    let lease = service.lock(&project, LockRequest::new("ana".parse()?, "edit".parse()?), Wait::NONE).await?.keep();

    // The token makes sure that it is this lease that ends, and not the next one.
    let end = Command::ForceUnlock { token: lease.token, by: "ops".parse()?, reason: "laptop is closed".parse()? };
    service.store().apply(&project, end).await?;

    for recorded in service.store().history(Some(&project), None, 10).await? {
        let event = recorded.event;
        let by = event.by.map(|by| format!(" by {by}")).unwrap_or_default();
        let why = event.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        println!("{}{by}{why}", event.kind.as_str());
    }
    Ok(())
}
