//! What `buildlock doctor` finds out about a database.

use super::PostgresStore;
use crate::StoreError;
use crate::store::{CountStore, Finding};

impl PostgresStore {
    pub(super) async fn look_over(&self) -> Result<Vec<Finding>, StoreError> {
        let counts = self.counts().await?;
        let address = &self.shared().address;
        let way = if address.is_pooled {
            "through a pooler in transaction mode: news are asked for"
        } else {
            "direct: news are told"
        };
        Ok(vec![
            Finding::good("connection", way),
            Finding::good("locks", format!("{} held, {} waiting", counts.held, counts.waiting)),
        ])
    }
}
