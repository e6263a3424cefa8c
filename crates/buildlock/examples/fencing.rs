//! Refuse a write of a builder that does not know yet that its lease is over.

use buildlock::{Command, LockRequest, LockService, Outcome, Token, Wait};

/// Storage that remembers the largest token it has seen, and refuses smaller ones.
#[derive(Default)]
struct Storage {
    newest: Option<Token>,
}

impl Storage {
    fn write(&mut self, token: Token, what: &str) -> Result<(), String> {
        if self.newest.is_some_and(|newest| token < newest) {
            return Err(format!("{what:?} is refused: token {token} is older than {:?}", self.newest.map(Token::get)));
        }
        self.newest = Some(token);
        println!("{what:?} is written with token {token}");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let service = LockService::open(&format!("sqlite:{}/locks.db", folder.path().display())).await?;
    let project = "my-site".parse()?;
    let mut storage = Storage::default();

    let zombie = service.lock(&project, LockRequest::new("ana".parse()?, "edit".parse()?), Wait::NONE).await?.keep();
    let end = Command::ForceUnlock { token: zombie.token, by: "ops".parse()?, reason: "paused for hours".parse()? };
    service.store().apply(&project, end).await?;
    let next = service.lock(&project, LockRequest::new("ben".parse()?, "edit".parse()?), Wait::NONE).await?;

    storage.write(next.token, "ben's page")?;
    if let Err(refused) = storage.write(zombie.token, "ana's old page") {
        println!("{refused}");
    }

    // Storage that can ask the store needs no memory of its own.
    let answer = service.store().apply(&project, Command::Verify { token: zombie.token }).await?;
    println!("the old token is current: {}", matches!(answer.outcome, Outcome::Held(_)));
    Ok(())
}
