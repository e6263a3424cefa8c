//! Lock a project, or learn who is in the way.

use buildlock::{LockError, LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;

    let request = LockRequest { message: "new header".parse()?, ..LockRequest::new("ana".parse()?, "edit".parse()?) };
    let lease = service.lock(&project, request, Wait::NONE).await?;
    println!("ana has the lock, token {}", lease.token);

    match service.lock(&project, LockRequest::new("ben".parse()?, "generate".parse()?), Wait::NONE).await {
        Err(LockError::Locked(busy)) => {
            println!("ben is refused: {} is on {}: {}", busy.lease.holder, busy.lease.operation, busy.lease.message);
        }
        other => println!("unexpected: {other:?}"),
    }

    lease.unlock().await?;
    println!("ana is done");
    Ok(())
}
