//! Stop when the lease is lost: here an operator ends it.

use buildlock::{Command, LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;
    let lease = service.lock(&project, LockRequest::new("ana".parse()?, "generate".parse()?), Wait::NONE).await?;

    let force_unlock =
        Command::ForceUnlock { token: lease.token, by: "ops".parse()?, reason: "the builder hangs".parse()? };
    service.store().apply(&project, force_unlock).await?;

    tokio::select! {
        () = build_for_ever() => {}
        loss = lease.lost() => println!("stopped: {loss}"),
    }
    Ok(())
}

async fn build_for_ever() {
    std::future::pending().await
}
