//! `doctor` for a database: what it says, and what it says where there is none.

mod support;

use std::fs;
use std::net::TcpListener;

use buildlock_testing::{ClusterOptions, TestCluster, TestPg};
use support::Sandbox;

#[tokio::test]
async fn the_doctor_looks_at_a_database_and_tells_what_to_do() {
    let (sandbox, database) = (Sandbox::new(), TestPg::fresh().await);
    let doctor = |url: &str| sandbox.run(&["--store", url, "doctor"]);
    let looked = doctor(&database.url());
    let said = String::from_utf8(looked.stdout).unwrap();
    // The tests' cluster is not durable, which is what the doctor is for.
    assert_eq!(looked.status.code(), Some(69), "{said}");
    assert!(said.contains("BAD   durability: fsync is off") && said.contains("\n      set both to on"), "{said}");
    assert!(said.contains("ok    tables: version") && said.contains("ok    pooler: none"), "{said}");

    let empty = TestPg::empty().await;
    let looked = doctor(&empty.url());
    let said = String::from_utf8(looked.stdout).unwrap();
    assert!(said.contains("BAD   tables: this database has no buildlock in it\n      buildlock migrate"), "{said}");

    let away = doctor("postgres://ana:secret@127.0.0.1:1/nowhere");
    assert_eq!(away.status.code(), Some(69));
    let said = format!("{}{}", String::from_utf8_lossy(&away.stdout), String::from_utf8_lossy(&away.stderr));
    assert!(said.contains("BAD   connection: postgres://ana@127.0.0.1:1/nowhere: "), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn in_a_supabase_projects_folder_its_local_database_is_looked_at_too() {
    let sandbox = Sandbox::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::create_dir(sandbox.path().join("supabase")).unwrap();
    let config = format!("project_id = \"app\"\n[api]\nport = 1\n[db]\nport = {free} # ours\nmajor_version = 15\n");
    fs::write(sandbox.path().join("supabase/config.toml"), config).unwrap();
    let said = sandbox.ok(&["doctor"]);
    let heading = format!("the local Supabase postgres://postgres@127.0.0.1:{free}/postgres\n\nBAD   connection: ");
    assert!(said.contains(&heading), "{said}");

    let cluster = TestCluster::start(&ClusterOptions { tcp_port: Some(free), ..ClusterOptions::default() });
    cluster.fresh().await.run("create role postgres superuser login").await;
    let said = sandbox.ok(&["doctor", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let findings = said["localSupabase"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["what"] == "connection" && finding["verdict"] == "good"), "{said}");
    assert!(findings.iter().any(|finding| finding["what"] == "tables" && finding["verdict"] == "bad"), "{said}");
}
