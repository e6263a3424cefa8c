//! Wait for one's turn, and say where one stands meanwhile.

use std::time::Duration;

use buildlock::{LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;
    let ana = service.lock(&project, LockRequest::new("ana".parse()?, "edit".parse()?), Wait::NONE).await?;

    let ten_minutes = Wait::new(Duration::from_secs(600))?;
    let (queued, is_queued) = tokio::sync::oneshot::channel();
    let ben = tokio::spawn({
        let (service, project) = (service.clone(), project.clone());
        let request = LockRequest::new("ben".parse()?, "edit".parse()?);
        async move {
            let mut queued = Some(queued);
            let lease = service
                .lock_telling(&project, request, ten_minutes, |place, _now| {
                    println!("ben is number {} in line, behind {}", place.position, place.busy.lease.holder);
                    queued.take().map(|queued| queued.send(()));
                })
                .await?;
            println!("ben's turn, token {}", lease.token);
            lease.unlock().await
        }
    });

    is_queued.await?;
    ana.unlock().await?;
    ben.await??;
    Ok(())
}
