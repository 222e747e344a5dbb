//! How often tags fell, where instances share a Postgres; told to the others in the same transaction.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::tags::Tag;
use super::told;
use crate::changes::note;
use crate::db::{DbError, PostgresDb, Purpose};

/// Lets `tags` fall. Returns how often each has now, this time included.
pub(super) async fn fall(db: &PostgresDb, tags: &[Tag]) -> Result<Vec<(Tag, u64)>, DbError> {
    let numbers: Vec<i16> = tags.iter().map(|tag| tag.0.cast_signed()).collect();
    let mut tx = db.system(Purpose::Falls).await?;
    // In one order, so that no two wait for each other.
    let query = sqlx::query(
        "INSERT INTO memo_falls (tag, count) SELECT DISTINCT tag, 1 FROM unnest($1::smallint[]) AS tag ORDER BY tag \
         ON CONFLICT (tag) DO UPDATE SET count = memo_falls.count + 1 RETURNING tag, count",
    );
    let rows = tx.all(query.bind(numbers)).await?;
    let fallen = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    note(&mut tx, &told::change(&fallen)).await?;
    tx.commit().await?;
    Ok(fallen)
}

/// How often each tag fell that ever did.
pub(super) async fn fallen(db: &PostgresDb) -> Result<Vec<(Tag, u64)>, DbError> {
    let rows = db.system(Purpose::Falls).await?.all(sqlx::query("SELECT tag, count FROM memo_falls")).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<(Tag, u64), sqlx::Error> {
    Ok((Tag(row.try_get::<i16, _>("tag")?.cast_unsigned()), row.try_get::<i64, _>("count")? as u64))
}
