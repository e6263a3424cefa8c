//! A platform on Supabase, as its users' browsers and its own services find it: calls come as from PostgREST, in a
//! transaction of the role `authenticator` that has taken the caller's role and carries the token's claims.
#![allow(dead_code, reason = "each test uses what it needs")]

use buildlock::postgres::{self, Adopt};
use buildlock_testing::TestPg;
use serde_json::{Value, json};
use tokio_postgres::Client;

pub(crate) const ANA: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const BO: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const ANAS_PROJECT: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub(crate) const BOS_PROJECT: &str = "bbbbbbbb-0000-4000-8000-000000000001";

/// What a new function or table in `public` may be used by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultPrivileges {
    /// Every API role: so it was before October 2026.
    Old,
    /// Nobody.
    New,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    role: &'static str,
    claims: Option<Value>,
}

impl Caller {
    pub(crate) fn user(id: &str) -> Self {
        Self::with_claims("authenticated", json!({ "sub": id, "role": "authenticated", "aud": "authenticated" }))
    }

    pub(crate) fn operator(id: &str) -> Self {
        let app_metadata = json!({ "buildlock_role": "operator" });
        Self::with_claims("authenticated", json!({ "sub": id, "role": "authenticated", "app_metadata": app_metadata }))
    }

    pub(crate) fn service() -> Self {
        Self::with_claims("service_role", json!({ "role": "service_role" }))
    }

    pub(crate) fn anonymous() -> Self {
        Self::with_claims("anon", json!({ "role": "anon" }))
    }

    pub(crate) fn with_claims(role: &'static str, claims: Value) -> Self {
        Self { role, claims: Some(claims) }
    }
}

/// How a call was refused, as its caller is told.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The HTTP status; 0 where PostgREST decides by the SQLSTATE.
    pub(crate) status: u64,
    /// The code; the SQLSTATE where the function gave none.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) details: Value,
    pub(crate) retry_after: Option<String>,
}

/// A platform with its own table `public.projects`, which has been adopted.
pub(crate) struct Platform {
    pub(crate) pg: TestPg,
}

/// The platform's own table, with all that such a table may have.
pub(crate) const PROJECTS: &str = "
    create table public.projects (
      id         uuid primary key default gen_random_uuid(),
      user_id    uuid not null references auth.users (id) on delete cascade,
      name       text not null,
      updated_at timestamptz not null default now()
    );
    create index projects_of_user on public.projects (user_id);
    create index projects_by_name on public.projects (lower(name));
    alter table public.projects enable row level security;
    create policy own_select on public.projects for select to authenticated using ((select auth.uid()) = user_id);
    create policy own_insert on public.projects for insert to authenticated with check ((select auth.uid()) = user_id);
    create policy own_update on public.projects for update to authenticated using ((select auth.uid()) = user_id);
    create policy own_delete on public.projects for delete to authenticated using ((select auth.uid()) = user_id);
    grant select, insert, update, delete on public.projects to authenticated, service_role;
    create function public.touch() returns trigger language plpgsql set search_path = ''
    as $$ begin new.updated_at := now(); return new; end $$;
    create trigger touch before update on public.projects for each row execute function public.touch();";

pub(crate) fn users_and_projects() -> String {
    format!(
        "insert into auth.users (id, email) values ('{ANA}', 'ana@example.com'), ('{BO}', 'bo@example.com');
         insert into public.projects (id, user_id, name)
         values ('{ANAS_PROJECT}', '{ANA}', 'Bakery'), ('{BOS_PROJECT}', '{BO}', 'Bikes');"
    )
}

pub(crate) fn adopt_projects() -> Adopt {
    Adopt { table: "public.projects".to_owned(), owner_column: Some("user_id".to_owned()) }
}

/// Supabase's shape, before buildlock came.
pub(crate) async fn before_buildlock(privileges: DefaultPrivileges) -> TestPg {
    let pg = TestPg::emulated().await;
    if privileges == DefaultPrivileges::Old {
        pg.run(
            "alter default privileges for role postgres in schema public
               grant all on tables to anon, authenticated, service_role;
             alter default privileges for role postgres in schema public
               grant all on functions to anon, authenticated, service_role;
             alter default privileges for role postgres in schema public
               grant all on sequences to anon, authenticated, service_role;",
        )
        .await;
    }
    pg
}

impl Platform {
    pub(crate) async fn new(privileges: DefaultPrivileges) -> Self {
        let pg = before_buildlock(privileges).await;
        let postgres = pg.client_as("postgres").await;
        postgres.batch_execute(PROJECTS).await.unwrap();
        postgres.batch_execute(&users_and_projects()).await.unwrap();
        postgres::migrate(&pg.url_as("postgres"), Some(&adopt_projects())).await.unwrap();
        Self { pg }
    }

    /// Calls a function in `public`, as PostgREST does.
    pub(crate) async fn rpc(&self, caller: &Caller, function: &str, arguments: Value) -> Result<Value, Refusal> {
        let call = format!("select to_json(public.{function}({}))::text", named(&arguments));
        let rows = self.query(caller, &call).await?;
        Ok(serde_json::from_str(rows[0].as_deref().unwrap()).unwrap())
    }

    /// Runs a statement as PostgREST would for this caller, and answers with the rows' first column.
    pub(crate) async fn query(&self, caller: &Caller, statement: &str) -> Result<Vec<Option<String>>, Refusal> {
        let mut authenticator = self.pg.client_as("authenticator").await;
        query(&mut authenticator, caller, statement).await
    }

    /// A value that the database's owner reads.
    pub(crate) async fn value(&self, query: &str) -> Option<String> {
        self.pg.client_as("postgres").await.query_one(query, &[]).await.unwrap().get(0)
    }

    /// What the platform's own row says: build_status, locked_by, and whether there is a time.
    pub(crate) async fn row(&self, project: &str) -> (String, Option<String>, bool) {
        let query = format!(
            "select build_status, locked_by::text, locked_at is not null from public.projects where id = '{project}'"
        );
        let row = self.pg.client_as("postgres").await.query_one(&query, &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    /// A project's history: kinds, oldest first.
    pub(crate) async fn history(&self, project: &str) -> Vec<String> {
        let query = "select kind from buildlock.events where project = $1 order by id";
        let rows = self.pg.client_as("postgres").await.query(query, &[&project]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Has a project's lease end now, as if its time were over.
    pub(crate) async fn let_expire(&self, project: &str) {
        let sql = "update buildlock.locks
                   set acquired_at = acquired_at - 3600000, expires_at = buildlock.now_ms() - 1, due_at = 0
                   where project = $1";
        assert_eq!(self.pg.client_as("postgres").await.execute(sql, &[&project]).await.unwrap(), 1);
    }
}

/// Runs a statement as PostgREST would for this caller on this connection of its own.
pub(crate) async fn query(
    authenticator: &mut Client,
    caller: &Caller,
    statement: &str,
) -> Result<Vec<Option<String>>, Refusal> {
    let transaction = authenticator.transaction().await.unwrap();
    transaction.batch_execute(&format!("set local role {}", caller.role)).await.unwrap();
    if let Some(claims) = &caller.claims {
        let claims = claims.to_string();
        transaction.execute("select set_config('request.jwt.claims', $1, true)", &[&claims]).await.unwrap();
    }
    let rows = transaction.query(statement, &[]).await.map_err(|error| refusal(&error))?;
    transaction.commit().await.map_err(|error| refusal(&error))?;
    Ok(rows.iter().map(|row| if row.is_empty() { None } else { row.get(0) }).collect())
}

/// What PostgREST makes of an error.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> Refusal {
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    if error.code().code() != "PGRST" {
        return Refusal {
            status: 0,
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            details: Value::Null,
            retry_after: None,
        };
    }
    let message: Value = serde_json::from_str(error.message()).unwrap();
    let detail: Value = serde_json::from_str(error.detail().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Refusal {
        status: detail["status"].as_u64().unwrap(),
        code: text(&message["code"]),
        message: text(&message["message"]),
        details: serde_json::from_str(&text(&message["details"])).unwrap(),
        retry_after: detail["headers"].get("Retry-After").map(text),
    }
}

/// Arguments by their names.
fn named(arguments: &Value) -> String {
    let arguments = arguments.as_object().unwrap().iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} => '{}'", text.replace('\'', "''")),
        value => format!("{name} => {value}"),
    });
    arguments.collect::<Vec<_>>().join(", ")
}
