//! The two macros the table files are written with.

/// Declares the entity of one table in a module of its own.
macro_rules! table {
    ($(#[$doc:meta])* $module:ident, $name:literal, {
        $($(#[$attr:meta])* $field:ident: $ty:ty),* $(,)?
    }) => {
        $(#[$doc])*
        pub mod $module {
            use sea_orm::entity::prelude::*;

            /// One row.
            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $name)]
            #[allow(missing_docs, reason = "a column is told by its table's documentation")]
            pub struct Model {
                $($(#[$attr])* pub $field: $ty,)*
            }

            /// Joins are written out where they are needed.
            #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

/// The values of a statement, in the order of its `$1`, `$2` …
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(sea_orm::Value::from($value)),*] };
}
pub(crate) use values;
