//! Work under a lock that is given back whatever happens: on success, on an error, on a panic.

use buildlock::{LockRequest, LockService, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;

    for broken in [false, true] {
        let request = LockRequest::new("ana".parse()?, "generate".parse()?);
        let built = service.with_lock(&project, request, Wait::NONE, async |_lease| build(broken).await).await?;
        println!("built: {built:?}");
    }

    let status = service.store().status(&project).await?.ok_or("the project exists")?;
    println!("afterwards the project is {}", status.build_status());
    Ok(())
}

async fn build(broken: bool) -> Result<&'static str, &'static str> {
    if broken { Err("a syntax error") } else { Ok("index.html") }
}
