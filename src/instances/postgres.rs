//! The table of living processes, of all tenants' work. Who lives is judged by the server's clock alone.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{Beat, Instance};
use crate::db::{DbError, PostgresDb, Purpose};

pub(super) async fn beat(db: &PostgresDb, own: &Instance, draining: bool, lease: Duration) -> Result<Beat, DbError> {
    let mut tx = db.system(Purpose::Instances).await?;
    let upsert = sqlx::query(
        "INSERT INTO instances (id, name, address, draining) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE \
         SET heartbeat_at = clock_timestamp(), draining = excluded.draining RETURNING xmax = 0 AS is_new",
    );
    let upsert = upsert.bind(own.id).bind(&own.name).bind(&own.address).bind(draining);
    let is_new = tx.one(upsert).await?.try_get("is_new")?;
    // Others look at the same moment: who comes second need not wait, let alone in a circle.
    let forget = sqlx::query(
        "DELETE FROM instances WHERE id IN ( \
             SELECT id FROM instances WHERE heartbeat_at < clock_timestamp() - make_interval(secs => $1) AND id <> $2 \
             FOR UPDATE SKIP LOCKED)",
    );
    tx.execute(forget.bind(lease.as_secs_f64()).bind(own.id)).await?;
    let living: i64 = tx.one(sqlx::query("SELECT count(*) FROM instances")).await?.try_get(0)?;
    tx.commit().await?;
    Ok(Beat { living: living as u64, is_new })
}

pub(super) async fn supersede(db: &PostgresDb, own: &Instance) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Instances).await?;
    let earlier = sqlx::query("DELETE FROM instances WHERE name = $1 AND id <> $2").bind(&own.name).bind(own.id);
    let superseded = tx.execute(earlier).await?;
    tx.commit().await?;
    Ok(superseded)
}

pub(super) async fn leave(db: &PostgresDb, id: Uuid) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Instances).await?;
    tx.execute(sqlx::query("DELETE FROM instances WHERE id = $1").bind(id)).await?;
    tx.commit().await
}
