//! Counts for metrics.

use async_trait::async_trait;

use super::PostgresStore;
use super::columns::Columns;
use super::statement::{COUNTS, parameters};
use crate::StoreError;
use crate::store::{CountStore, Counts};

#[async_trait]
impl CountStore for PostgresStore {
    fn begin_to_count(&self) {}

    async fn counts(&self) -> Result<Counts, StoreError> {
        let row = self.row(&COUNTS, parameters![]).await?;
        let columns = &mut Columns::of(&row);
        let mut read = || Ok(Counts { held: columns.get()?, waiting: columns.get()? });
        read().map_err(|nonsense| self.shared().spoilt(&nonsense))
    }
}
