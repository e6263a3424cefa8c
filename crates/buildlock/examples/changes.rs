//! Follow what happens in a store, from any point on, without missing anything.

use buildlock::{EventId, LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    for project in ["my-site", "my-shop"] {
        let request = LockRequest::new("ana".parse()?, "generate".parse()?);
        service.lock(&project.parse()?, request, Wait::NONE).await?.unlock().await?;
    }

    let mut changes = service.changes(Some(EventId(0)));
    for _ in 0..4 {
        let change = changes.next().await?;
        println!("{} {} was {}", change.id.0, change.project, change.event.kind.as_str());
    }
    Ok(())
}
