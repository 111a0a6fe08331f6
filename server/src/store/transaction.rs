//! The one door through which what was written together is kept, so that tests may die before it and after it.

use std::pin::Pin;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

/// What a statement gives, in the form `ConnectionTrait` asks for; it is the inner transaction's own.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DbErr>> + Send + 'a>>;

/// Statements that are kept together or not at all: not, unless it is committed.
#[derive(Debug)]
pub struct DatabaseTransaction(sea_orm::DatabaseTransaction);

impl DatabaseTransaction {
    pub(super) fn new(inner: sea_orm::DatabaseTransaction) -> Self {
        Self(inner)
    }

    /// Keeps everything. On an error it may have been kept all the same: the connection may break before the answer.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    #[cfg_attr(test, track_caller)]
    #[cfg_attr(
        not(test),
        expect(
            clippy::manual_async_fn,
            reason = "who commits is known only to what is no `async fn`"
        )
    )]
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn commit(self) -> impl Future<Output = Result<(), DbErr>> + Send {
        #[cfg(test)]
        let place = super::failpoints::Place::here();
        async move {
            #[cfg(test)]
            place.before().await;
            self.0.commit().await?;
            #[cfg(test)]
            place.after().await;
            Ok(())
        }
    }

    /// Keeps nothing.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.0.rollback().await
    }
}

// Spelled out, since the macro that writes this for others would put every statement into a second box.
impl ConnectionTrait for DatabaseTransaction {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    fn execute_raw<'a, 'f>(&'a self, statement: Statement) -> Answer<'f, ExecResult>
    where
        'a: 'f,
        Self: 'f,
    {
        self.0.execute_raw(statement)
    }

    fn execute_unprepared<'a, 'b, 'f>(&'a self, sql: &'b str) -> Answer<'f, ExecResult>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.0.execute_unprepared(sql)
    }

    fn query_one_raw<'a, 'f>(&'a self, statement: Statement) -> Answer<'f, Option<QueryResult>>
    where
        'a: 'f,
        Self: 'f,
    {
        self.0.query_one_raw(statement)
    }

    fn query_all_raw<'a, 'f>(&'a self, statement: Statement) -> Answer<'f, Vec<QueryResult>>
    where
        'a: 'f,
        Self: 'f,
    {
        self.0.query_all_raw(statement)
    }
}
