//! A standby: a second cluster that follows the first one's log, and may take over from it.

use std::time::Duration;

use crate::cluster::{PORT, append};
use crate::programs::{program, run};
use crate::{SUPERUSER, TestCluster};

/// By this name a primary knows its standby.
const NAME: &str = "standby";

impl TestCluster {
    /// Starts a standby of this cluster, as a copy of it. From then on a commit waits until the standby has it on
    /// its disk too.
    pub async fn standby(&self) -> Self {
        let standby = Self::place(Duration::ZERO, PORT);
        let mut copy = program("pg_basebackup");
        copy.arg("-D")
            .arg(standby.data())
            .arg("-h")
            .arg(self.folder())
            .arg("-p")
            .arg(self.port().to_string())
            .args(["-U", SUPERUSER]);
        run(copy.args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]).current_dir(standby.folder()));
        let folder = standby.folder().display();
        let settings = format!(
            "\ncluster_name = '{NAME}'\nunix_socket_directories = '{folder}'\nport = {PORT}\nlisten_addresses = ''\n"
        );
        append(&standby.data().join("postgresql.conf"), &settings);
        standby.start_again();
        self.wait_for_standby().await;
        standby
    }

    async fn wait_for_standby(&self) {
        let client = crate::database::connect(&self.url(SUPERUSER, "postgres")).await;
        let set = format!("alter system set synchronous_standby_names = '{NAME}'");
        client.batch_execute(&set).await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        let is_waited_for = "select count(*) = 1 from pg_stat_replication where sync_state = 'sync'";
        // Nothing tells of it but the view.
        let waiting = async {
            while !client.query_one(is_waited_for, &[]).await.unwrap().get::<_, bool>(0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(FOLLOWS_WITHIN, waiting).await.expect("the standby does not follow");
    }

    /// Makes this standby the primary, which takes writes when this returns.
    pub fn promote(&self) {
        self.control("promote", &["-w", "-t", "60"]);
    }
}

/// How long a standby may take to follow.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(60);
